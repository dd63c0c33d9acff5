//! Which server has a bucket, and a connection to it.
//!
//! Nothing is repeated whose answer was lost: the ledger reads the record again and decides. What a server has refused
//! without doing it goes to the server that it names, or that the sentinels name then.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::{Cmd, Pipeline, Value};
use tokio::time::{timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::super::StoreError;
use super::connection::{Connection, LOOK, Server, connected_replicas};
use super::failure::{Verdict, describe, unreachable, verdict};
use super::keys::Bucket;
use super::places::login;
use super::script::Call;
use super::settings::{Mode, Node, RedisSettings, RedisSettingsError};
use crate::roots;

/// All that is known of the servers.
pub(super) struct Servers {
    pub(super) settings: RedisSettings,
    pub(super) tls: Option<TlsConnector>,
    /// Where the buckets are, as far as is known.
    places: tokio::sync::Mutex<Option<Arc<Places>>>,
    lanes: Mutex<BTreeMap<(Node, Lane), Slot>>,
    /// When the sentinels are to be asked again without need.
    follow_next: Mutex<Option<tokio::time::Instant>>,
    /// Whether it was said that no replica acknowledges writes.
    warned: AtomicBool,
}

/// One connection, made by the first who needs it.
type Slot = Arc<tokio::sync::Mutex<Option<Arc<Connection>>>>;

/// What a connection is for. What waits in one of them does not hold up the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    /// Commands that are answered at once.
    Ask,
    /// Writes that wait until a replica has them.
    Tell,
    /// News, which are waited for.
    Listen,
}

/// Where each bucket is: the node of a cluster, or the same server for all of them.
pub(super) type Places = Vec<Node>;

/// How often the sentinels are asked whether the master is still the same.
const FOLLOW: Duration = Duration::from_secs(5);

/// How often one operation may be sent elsewhere.
const REDIRECTIONS: usize = 4;

impl Servers {
    pub(super) fn new(settings: RedisSettings) -> Result<Self, RedisSettingsError> {
        let cluster = matches!(settings.mode, Mode::Cluster);
        match settings.nodes.len() {
            0 => return Err(RedisSettingsError::NoNode),
            several if several > 1 && matches!(settings.mode, Mode::Single) => {
                return Err(RedisSettingsError::SeveralNodes(several));
            }
            _ if cluster && settings.database != 0 => return Err(RedisSettingsError::Database(settings.database)),
            _ => {}
        }
        let tls = match &settings.tls {
            Some(tls) => {
                Some(Arc::new(roots::client_config(tls.ca_file.as_deref(), None, "the ledger's server")?).into())
            }
            None => None,
        };
        Ok(Self {
            settings,
            tls,
            places: tokio::sync::Mutex::default(),
            lanes: Mutex::default(),
            follow_next: Mutex::default(),
            warned: AtomicBool::default(),
        })
    }

    /// Runs a script on its bucket.
    pub(super) async fn run(self: &Arc<Self>, bucket: Bucket, lane: Lane, call: &Call) -> Result<Value, StoreError> {
        let deadline = tokio::time::Instant::now() + self.settings.timeout;
        let mut elsewhere: Option<(Node, bool)> = None;
        let mut last = None;
        for _ in 0..REDIRECTIONS {
            let (node, asking) = match elsewhere.take() {
                Some(known) => known,
                None => (self.place(bucket, deadline).await?, false),
            };
            let connection = self.connection(&node, lane, deadline).await?;
            let answer = timeout_at(deadline, self.send(&connection, lane, call, asking)).await;
            let Ok(answer) = answer else { return Err(self.timed_out(&connection)) };
            let error = match answer {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            match verdict(&node, &error) {
                Verdict::Refused | Verdict::UnknownScript => return Err(describe(&node, &error)),
                Verdict::Broken => {
                    self.forget(&connection);
                    return Err(describe(&node, &error));
                }
                Verdict::NoMaster => self.forget(&connection),
                Verdict::Moved(node) => {
                    self.forget_places();
                    elsewhere = Some((node, false));
                }
                Verdict::Ask(node) => elsewhere = Some((node, true)),
            }
            last = Some(describe(&node, &error));
        }
        Err(last.unwrap_or_else(|| StoreError::Unreachable("no server was asked".to_owned())))
    }

    /// Runs a script, by its text if the server does not know it yet.
    async fn send(&self, on: &Connection, lane: Lane, call: &Call, asking: bool) -> redis::RedisResult<Value> {
        match self.exchange(on, lane, call.by_hash(), asking).await {
            Err(error) if verdict(&on.node, &error) == Verdict::UnknownScript => {
                self.exchange(on, lane, call.by_text(), asking).await
            }
            answer => answer,
        }
    }

    /// Sends one command with what goes with it: leave to ask a node that only receives the slot, and the wait for a
    /// replica, all in one round trip.
    async fn exchange(&self, on: &Connection, lane: Lane, command: Cmd, asking: bool) -> redis::RedisResult<Value> {
        let (look, wait) = if lane == Lane::Tell { Self::replicas_due(on) } else { (false, false) };
        if !(asking || look || wait) {
            return on.command(&command).await;
        }
        let mut pipeline = Pipeline::new();
        if asking {
            pipeline.cmd("ASKING");
        }
        pipeline.add_command(command);
        if look {
            pipeline.cmd("INFO").arg("replication");
        }
        if wait {
            // A quarter of the time: the operation itself shall not fail because of it.
            pipeline.cmd("WAIT").arg(1).arg((self.settings.timeout / 4).as_millis().max(1).to_string());
        }
        let mut answers = on.pipeline(&pipeline).await?.into_iter();
        if asking {
            answers.next();
        }
        let answer = answers.next().unwrap_or(Value::Nil).extract_error();
        if look {
            let info = answers.next().and_then(|info| redis::from_redis_value::<String>(info).ok());
            Self::set_replicas(on, info.is_some_and(|info| connected_replicas(&info) > 0));
        }
        if wait && answer.is_ok() {
            let acknowledged = answers.next().is_some_and(|number| matches!(number, Value::Int(1..)));
            if acknowledged {
                self.warned.store(false, Ordering::Relaxed);
            } else {
                // The others need not wait in vain, one after the other. Looked for again in a while.
                Self::set_replicas(on, false);
                if !self.warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!(server = %on.node, "no replica acknowledges writes to the ledger: a failover may lose the latest");
                }
            }
        }
        answer
    }

    fn replicas_due(connection: &Connection) -> (bool, bool) {
        let mut replicas = connection.replicas.lock().unwrap_or_else(PoisonError::into_inner);
        let look = replicas.look_again <= tokio::time::Instant::now();
        if look {
            replicas.look_again = tokio::time::Instant::now() + LOOK;
        }
        (look, replicas.present)
    }

    fn set_replicas(connection: &Connection, present: bool) {
        connection.replicas.lock().unwrap_or_else(PoisonError::into_inner).present = present;
    }

    /// Several commands for one server in one round trip. The first error among the answers is the error of all.
    pub(super) async fn pipeline(
        self: &Arc<Self>,
        node: &Node,
        pipeline: &Pipeline,
        patience: Duration,
    ) -> Result<Vec<Value>, StoreError> {
        let lane = Lane::Listen;
        let connection = self.connection(node, lane, tokio::time::Instant::now() + self.settings.timeout).await?;
        let answers = match timeout(patience, connection.pipeline(pipeline)).await {
            Ok(answers) => answers.and_then(|answers| answers.into_iter().map(Value::extract_error).collect()),
            Err(_) => return Err(self.timed_out(&connection)),
        };
        match answers {
            Ok(answers) => Ok(answers),
            Err(error) => {
                match verdict(node, &error) {
                    Verdict::Refused | Verdict::UnknownScript | Verdict::Ask(_) => {}
                    Verdict::Broken | Verdict::NoMaster => self.forget(&connection),
                    Verdict::Moved(_) => self.forget_places(),
                }
                Err(describe(node, &error))
            }
        }
    }

    /// All servers that have buckets, each with its buckets.
    pub(super) async fn shares(self: &Arc<Self>) -> Result<BTreeMap<Node, Vec<Bucket>>, StoreError> {
        let places = self.places(tokio::time::Instant::now() + self.settings.timeout).await?;
        let mut shares = BTreeMap::<_, Vec<_>>::new();
        for (bucket, node) in Bucket::all().zip(places.iter()) {
            shares.entry(node.clone()).or_default().push(bucket);
        }
        Ok(shares)
    }

    /// Asks each server for what it says of itself, on a new connection, and takes a server that must not be used out
    /// of use.
    pub(super) async fn check(self: &Arc<Self>) -> Result<Vec<Server>, StoreError> {
        let mut servers = Vec::new();
        for node in self.shares().await?.into_keys() {
            let deadline = tokio::time::Instant::now() + self.settings.timeout;
            match timeout_at(deadline, self.dial(&node)).await.unwrap_or_else(|_| Err(self.late(&node))) {
                Ok((_, server)) => servers.push(server),
                Err(error) => {
                    self.lanes.lock().unwrap_or_else(PoisonError::into_inner).retain(|(held, _), _| *held != node);
                    self.forget_places();
                    return Err(error);
                }
            }
        }
        Ok(servers)
    }

    /// The connection of a lane to a server, made now if there is none.
    async fn connection(
        self: &Arc<Self>,
        node: &Node,
        lane: Lane,
        deadline: tokio::time::Instant,
    ) -> Result<Arc<Connection>, StoreError> {
        let slot = self.slot(node, lane);
        let connect = async {
            let mut held = slot.lock().await;
            if let Some(connection) = held.as_ref().filter(|connection| connection.is_open()) {
                return Ok(Arc::clone(connection));
            }
            *held = None;
            let (connection, server) = self.dial(node).await?;
            let connection = Arc::new(connection);
            Self::set_replicas(&connection, server.replicas > 0);
            *held = Some(Arc::clone(&connection));
            Ok(connection)
        };
        let connected = timeout_at(deadline, connect).await.unwrap_or_else(|_| Err(self.late(node)));
        if connected.is_err() {
            // It may be another server's turn now.
            self.forget_places();
        }
        connected
    }

    /// A new connection to a server that may be used.
    async fn dial(&self, node: &Node) -> Result<(Connection, Server), StoreError> {
        let connection = self.open(node).await?;
        let server = connection.info().await?;
        match (&self.settings.mode, server.cluster) {
            (Mode::Cluster, false) => {
                Err(unreachable(node, "it is no node of a cluster, but the ledger is set to one"))
            }
            (Mode::Single | Mode::Sentinel { .. }, true) => {
                Err(unreachable(node, "it is a node of a cluster; set the ledger to a cluster"))
            }
            (Mode::Cluster, true) | (Mode::Single | Mode::Sentinel { .. }, false) => Ok((connection, server)),
        }
    }

    pub(super) async fn open(&self, node: &Node) -> Result<Connection, StoreError> {
        let login = login(self.settings.username.as_deref(), self.settings.password.as_ref());
        Connection::open(node, self.tls.as_ref(), &login.set_db(self.settings.database.into())).await
    }

    fn slot(&self, node: &Node, lane: Lane) -> Slot {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(lanes.entry((node.clone(), lane)).or_default())
    }

    /// Takes a connection out of use, and what is known of the places with it.
    fn forget(&self, connection: &Connection) {
        connection.give_up();
        self.forget_places();
    }

    /// If somebody is finding out just now, nothing has to be forgotten; nobody shall wait for that.
    fn forget_places(&self) {
        if let Ok(mut places) = self.places.try_lock() {
            *places = None;
        }
    }

    /// A server that does not answer may be gone without a word; the next operation connects anew.
    fn timed_out(&self, connection: &Connection) -> StoreError {
        self.forget(connection);
        self.late(&connection.node)
    }

    fn late(&self, node: &Node) -> StoreError {
        unreachable(node, &format!("no answer within {:?}", self.settings.timeout))
    }

    /// Sees to it that a master that was replaced, but that neither died nor learned of it, is not listened to for ever.
    pub(super) async fn follow(self: &Arc<Self>) {
        if !matches!(self.settings.mode, Mode::Sentinel { .. }) {
            return;
        }
        {
            let mut next = self.follow_next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = tokio::time::Instant::now();
            if next.is_some_and(|next| now < next) {
                return;
            }
            *next = Some(now + FOLLOW);
        }
        // That the sentinels cannot be asked says nothing about the master.
        if let Ok(Ok(places)) = timeout(self.settings.timeout, self.find_places()).await {
            self.close_all_but(&places);
            *self.places.lock().await = Some(Arc::new(places));
        }
    }

    /// Over the years many servers may have their turn.
    fn close_all_but(&self, places: &Places) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.retain(|(node, _), _| places.contains(node));
    }

    async fn place(self: &Arc<Self>, bucket: Bucket, deadline: tokio::time::Instant) -> Result<Node, StoreError> {
        let places = self.places(deadline).await?;
        places.get(bucket.index()).cloned().ok_or_else(|| StoreError::Unreachable("a bucket has no server".to_owned()))
    }

    async fn places(self: &Arc<Self>, deadline: tokio::time::Instant) -> Result<Arc<Places>, StoreError> {
        let find = async {
            let mut held = self.places.lock().await;
            if let Some(places) = held.as_ref() {
                return Ok(Arc::clone(places));
            }
            let places = Arc::new(self.find_places().await?);
            self.close_all_but(&places);
            *held = Some(Arc::clone(&places));
            Ok(places)
        };
        let late = |_| Err(StoreError::Unreachable(format!("none of {} answered in time", self.named())));
        timeout_at(deadline, find).await.unwrap_or_else(late)
    }
}

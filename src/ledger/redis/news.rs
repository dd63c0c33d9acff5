//! What others have written, from the streams of all buckets.
//!
//! No write is missed without a gap being told. A position holds for each bucket an entry of its stream that was the
//! last one then. A record that is loaded after that can be changed only together with an entry behind it, by the
//! script that writes both. Entries vanish from the front (trimmed), all at once (expired, flushed, restarted without
//! persistence), or from the end (a failover to a replica that lacked them; the changes are lost with them). In the
//! first two cases an entry behind the position's own cannot vanish without that one; so it is looked for *after*
//! reading what is behind it: if it is still there, what was read is complete. In the third it is missing if the loss
//! reaches back to what was heard; what nobody has heard of and nobody has is no change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, Value};

use super::super::{Heard, Position, StoreError};
use super::keys::Bucket;
use super::script::Call;
use super::servers::Servers;
use super::settings::{Mode, Node};

/// How long news is waited for.
const BLOCK: Duration = Duration::from_secs(1);
/// In a cluster no command can wait for streams of several slots, so they are looked at so often instead.
const LOOK: Duration = Duration::from_millis(100);
/// How many pieces of one stream are read at once.
const BATCH: usize = 1_000;
/// The position in a stream without an entry.
const EMPTY: &str = "0-0";

/// The last entry of each bucket that was heard.
type Ids = BTreeMap<Bucket, String>;

/// An XREAD's answer: for each stream that has something, its entries, each an id and named fields.
type Streams = Vec<(String, Vec<(String, Vec<(String, Vec<u8>)>)>)>;

/// What [`Changes::after`](super::super::Changes::after) promises.
pub(super) async fn after(servers: &Arc<Servers>, position: Option<&Position>) -> Result<Heard, StoreError> {
    let Some(mut ids) = position.and_then(ids_of) else {
        let ids = ends(servers, &Bucket::all().collect::<Vec<_>>()).await?;
        return Ok(Heard { news: Vec::new(), position: position_of(&ids), gap: true });
    };
    servers.follow().await;
    let until = tokio::time::Instant::now() + BLOCK;
    loop {
        let mut heard = Part::default();
        for (node, buckets) in servers.shares().await? {
            read(servers, &node, &buckets, &mut ids, &mut heard).await?;
        }
        if !heard.lost.is_empty() {
            ids.extend(ends(servers, &heard.lost).await?);
        }
        if heard.moved || heard.gap || !is_cluster(servers) || tokio::time::Instant::now() >= until {
            return Ok(Heard { news: heard.news, position: position_of(&ids), gap: heard.gap });
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[derive(Default)]
struct Part {
    news: Vec<Vec<u8>>,
    moved: bool,
    gap: bool,
    /// Where nothing was read that could take the place of the entry that has gone.
    lost: Vec<Bucket>,
}

/// Reads what one server has behind `ids`, and moves them on.
async fn read(
    servers: &Arc<Servers>,
    node: &Node,
    buckets: &[Bucket],
    ids: &mut Ids,
    heard: &mut Part,
) -> Result<(), StoreError> {
    let name = |bucket: &Bucket| bucket.news(&servers.settings.prefix);
    let mut pipeline = Pipeline::new();
    let together = if is_cluster(servers) { 1 } else { buckets.len().max(1) };
    let reads = buckets.chunks(together);
    let number_of_reads = reads.len();
    for buckets in reads {
        pipeline.cmd("XREAD").arg("COUNT").arg(BATCH);
        if !is_cluster(servers) {
            pipeline.arg("BLOCK").arg(BLOCK.as_millis().to_string());
        }
        pipeline.arg("STREAMS").arg(buckets.iter().map(name).collect::<Vec<_>>());
        pipeline.arg(buckets.iter().map(|bucket| held(ids, *bucket)).collect::<Vec<_>>());
    }
    for bucket in buckets {
        pipeline.cmd("XRANGE").arg(name(bucket)).arg(held(ids, *bucket)).arg(held(ids, *bucket));
    }
    // Time also for a call before this one that was given up and still waits.
    let patience = BLOCK + 2 * servers.settings.timeout;
    let mut answers = servers.pipeline(node, &pipeline, patience).await?.into_iter();
    let mut streams = Streams::new();
    for answer in answers.by_ref().take(number_of_reads) {
        let read: Option<Streams> = redis::from_redis_value(answer).map_err(|_| StoreError::Corrupt)?;
        streams.extend(read.unwrap_or_default());
    }
    for (bucket, found) in buckets.iter().zip(answers) {
        let gone = held(ids, *bucket) != EMPTY && found == Value::Array(Vec::new());
        heard.gap |= gone;
        let at = streams.iter().position(|(stream, _)| *stream == name(bucket));
        let Some((_, entries)) = at.map(|at| streams.swap_remove(at)) else {
            heard.lost.extend(gone.then_some(*bucket));
            continue;
        };
        for (id, fields) in entries {
            heard.moved = true;
            heard.news.extend(fields.into_iter().filter(|(field, _)| field == "news").map(|(_, news)| news));
            ids.insert(*bucket, id);
        }
    }
    Ok(())
}

/// The present ends of these buckets.
async fn ends(servers: &Arc<Servers>, buckets: &[Bucket]) -> Result<Ids, StoreError> {
    let mut ids = Ids::new();
    for (node, all) in servers.shares().await? {
        let here: Vec<_> = all.into_iter().filter(|bucket| buckets.contains(bucket)).collect();
        let mut pipeline = Pipeline::new();
        for bucket in &here {
            pipeline.add_command(Call::end(&servers.settings.prefix, *bucket).by_text());
        }
        if here.is_empty() {
            continue;
        }
        let answers = servers.pipeline(&node, &pipeline, BLOCK + 2 * servers.settings.timeout).await?;
        for (bucket, id) in here.into_iter().zip(answers) {
            ids.insert(bucket, redis::from_redis_value(id).map_err(|_| StoreError::Corrupt)?);
        }
    }
    Ok(ids)
}

fn held(ids: &Ids, bucket: Bucket) -> &str {
    ids.get(&bucket).map_or(EMPTY, String::as_str)
}

fn is_cluster(servers: &Servers) -> bool {
    matches!(servers.settings.mode, Mode::Cluster)
}

fn position_of(ids: &Ids) -> Position {
    let ids: Vec<_> = Bucket::all().map(|bucket| held(ids, bucket)).collect();
    Position(ids.join(" ").into_bytes())
}

/// None if it was written by another store: then where it was is not known.
fn ids_of(position: &Position) -> Option<Ids> {
    let text = std::str::from_utf8(&position.0).ok()?;
    let ids: Vec<_> = text.split(' ').map(ToOwned::to_owned).collect();
    (ids.len() == Bucket::all().count()).then(|| Bucket::all().zip(ids).collect())
}

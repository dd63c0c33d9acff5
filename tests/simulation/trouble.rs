//! What may go wrong in a life, by the name of the test that has it.

/// Where the bodies of sessions lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Home {
    #[default]
    Cookie,
    Ledger,
    /// In the cookie, until the session outgrows it.
    Growing,
}

/// How the authorization server takes a refresh token that is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// It kills the family.
    Strict,
    /// It is refused, and the family lives.
    Lenient,
    /// For some seconds it is answered with another successor in place of the first; after that it kills the family.
    Grace,
}

/// What may go wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trouble {
    /// Requests are aborted, answers lost.
    pub(crate) browser: bool,
    /// Token requests are slow, refused, or answered with nonsense; none of this hides a rotation.
    pub(crate) issuer: bool,
    /// Answers are lost after the server has rotated, by servers of all tempers.
    pub(crate) hidden: bool,
    /// The ledger's store fails before or after writing, or is slow.
    pub(crate) store: bool,
    /// One replica cannot reach the store for a while.
    pub(crate) partition: bool,
    /// The store fails over, and forgets what it has acknowledged last.
    pub(crate) failover: bool,
    /// Replicas crash at any point.
    pub(crate) crash: bool,
    /// The person signs out in the middle of it.
    pub(crate) logout: bool,
    /// All sessions of the person are ended from the issuer's side.
    pub(crate) burial: bool,
    /// The person signs in again while requests are running.
    pub(crate) relogin: bool,
    /// Somebody uses a copy of a cookie.
    pub(crate) thief: bool,
    /// The clocks of replicas differ by minutes and are set by an hour.
    pub(crate) clocks: bool,
    /// The clock of the store is set by an hour.
    pub(crate) store_clock: bool,
    /// Half of the calls are of an API with tokens of its own, from the same refresh token.
    pub(crate) apis: bool,
    pub(crate) home: Home,
}

impl Trouble {
    /// Something that can make a session wait.
    pub(crate) const fn delays(&self) -> bool {
        self.issuer || self.hidden || self.ledger() || self.crash || self.clocks || self.store_clock
    }

    /// Something that keeps replicas from the ledger, or makes it forget.
    pub(crate) const fn ledger(&self) -> bool {
        self.store || self.partition || self.failover
    }
}

//! For which APIs the authorization server has lately given no token, so that it is not asked again with every call.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::oauth::TargetId;
use crate::session::SessionId;

/// See the module. Bounded: what has run out is forgotten when it fills, and then all of it if that was not enough.
#[derive(Default)]
pub(super) struct Denials {
    until: Mutex<HashMap<(SessionId, TargetId), Timestamp>>,
}

/// A denial is believed for this long: somebody may change a registration, or grant a consent.
const BELIEVED: Duration = Duration::from_secs(60);
const CROWD: usize = 4096;

impl Denials {
    pub(super) fn note(&self, session: SessionId, target: TargetId, now: Timestamp) {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.len() >= CROWD {
            until.retain(|_, until| *until > now);
        }
        if until.len() >= CROWD {
            until.clear();
        }
        until.insert((session, target), now + BELIEVED);
    }

    pub(super) fn is_denied(&self, session: SessionId, target: TargetId, now: Timestamp) -> bool {
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        // One that seems to last longer than any was noted before the clock was set back.
        until.get(&(session, target)).is_some_and(|until| *until > now && until.until(now) <= BELIEVED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::{Means, TokenTarget, Wanted};

    #[test]
    fn a_denial_is_believed_for_a_minute_for_that_session_and_api() {
        let (one, two) = (SessionId::from_bytes([1; 16]), SessionId::from_bytes([2; 16]));
        let target = |name: &str| {
            TokenTarget::new(Wanted { audience: Some(name.to_owned()), ..Wanted::default() }, Means::Refresh).id()
        };
        let (denials, now) = (Denials::default(), Timestamp::from_secs(1_000_000));
        denials.note(one, target("a"), now);
        assert!(denials.is_denied(one, target("a"), now + Duration::from_secs(59)));
        assert!(!denials.is_denied(one, target("a"), now + Duration::from_secs(60)));
        assert!(!denials.is_denied(one, target("b"), now) && !denials.is_denied(two, target("a"), now));
        assert!(!denials.is_denied(one, target("a"), now - Duration::from_secs(3600)), "the clock was set back");
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let (denials, now) = (Denials::default(), Timestamp::from_secs(1_000_000));
        let target = TokenTarget::new(Wanted::default(), Means::Refresh).id();
        for number in 0..3 * CROWD as u128 {
            denials.note(SessionId::from_bytes(number.to_be_bytes()), target, now);
        }
        assert!(denials.until.lock().unwrap().len() <= CROWD);
    }
}

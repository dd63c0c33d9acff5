//! placeholder
use serde::{Deserialize, Serialize};
/// id
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId([u8; 16]);
impl SessionId {
    /// b
    pub const fn from_bytes(b: [u8; 16]) -> Self {
        Self(b)
    }
    /// b
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

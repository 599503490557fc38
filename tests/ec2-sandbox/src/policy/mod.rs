//! IAM policies: parsed strictly, evaluated as IAM does for identities and for the trust of a role.
//!
//! Only what the sandbox can evaluate is accepted: an operator or a condition key it does not know is refused
//! when the policy is attached, so that no statement silently means something else. Start in `evaluate`.

mod condition;
mod document;
mod evaluate;
mod wildcard;

pub use condition::Context;
pub use document::Policy;
pub use evaluate::{Verdict, evaluate};
pub(crate) use wildcard::matches as wildcard_matches;

//! The words that metric labels may carry. A label is drawn from a closed set, or becomes [`OTHER`]:
//! the number of series stays bounded whatever AWS, a tenant or a bug sends.

use std::borrow::Cow;

/// The label value of everything that is not in the set.
pub const OTHER: &str = "Other";

/// The `code` of an AWS call that succeeded.
pub const OK: &str = "OK";

/// The `code` of an AWS call that got no reply in time.
pub const TIMEOUT: &str = "Timeout";

/// The `code` of an AWS call that never reached AWS, or whose connection broke.
pub const NO_REPLY: &str = "NoReply";

/// The EC2 calls that change something.
pub const WRITES: [&str; 3] =
    ["AssociateIamInstanceProfile", "ReplaceIamInstanceProfileAssociation", "DisassociateIamInstanceProfile"];

/// Every AWS operation that the controller calls.
pub const OPERATIONS: [&str; 10] = [
    "DescribeIamInstanceProfileAssociations",
    "DescribeInstances",
    "AssociateIamInstanceProfile",
    "ReplaceIamInstanceProfileAssociation",
    "DisassociateIamInstanceProfile",
    "GetInstanceProfile",
    "ListInstanceProfiles",
    "ListInstanceProfilesForRole",
    "GetCallerIdentity",
    "AssumeRole",
];

/// The codes of AWS replies that are told apart (those of aws-semantics 1.5 and of the SDKs' throttle list).
const CODES: [&str; 38] = [
    OK,
    TIMEOUT,
    NO_REPLY,
    "DryRunOperation",
    "IncorrectState",
    "IncorrectInstanceState",
    "InvalidParameterValue",
    "InvalidParameterCombination",
    "MissingParameter",
    "InvalidInstanceID.Malformed",
    "InvalidInstanceID.NotFound",
    "InvalidAssociationID.NotFound",
    "NoSuchAssociation",
    "InvalidNextToken",
    "FilterLimitExceeded",
    "NoSuchEntity",
    "ValidationError",
    "UnauthorizedOperation",
    "OperationNotPermitted",
    "AccessDenied",
    "AccessDeniedException",
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
    "OptInRequired",
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "EC2ThrottledException",
    "TooManyRequestsException",
    "InternalError",
    "InternalFailure",
    "Unavailable",
    "ServiceUnavailable",
];

/// How the deletion of a binding ended.
pub const OUTCOMES: [&str; 5] = ["Done", "LeftInPlace", "NotRestored", "HandedOver", "ForceReleased"];

/// The HTTP status of a reply, if it is one.
pub fn status(code: u16) -> Cow<'static, str> {
    if (100..600).contains(&code) { code.to_string().into() } else { OTHER.into() }
}

/// The methods of requests to the Kubernetes API server.
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// The operation as a label: itself if the controller calls it, else [`OTHER`].
pub(crate) fn operation(name: &str) -> &'static str {
    member(&OPERATIONS, name)
}

/// The code of an AWS reply as a label.
pub(crate) fn code(name: &str) -> &'static str {
    member(&CODES, name)
}

/// The outcome of a deletion as a label.
pub(crate) fn outcome(name: &str) -> &'static str {
    member(&OUTCOMES, name)
}

/// The HTTP method of a Kubernetes request as a label.
pub(crate) fn method(name: &str) -> &'static str {
    member(&METHODS, name)
}

fn member(set: &[&'static str], name: &str) -> &'static str {
    set.iter().find(|known| **known == name).copied().unwrap_or(OTHER)
}

/// How one pass over one binding ended; the label `result` of controller-runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReconcileResult {
    /// Nothing more to do until something changes.
    Success,
    /// It failed and will be tried again with back-off.
    Error,
    /// It asked to be looked at again at once.
    Requeue,
    /// It asked to be looked at again after a time of its own choice.
    RequeueAfter,
}

impl ReconcileResult {
    /// Every result, so that each series exists from the start.
    pub const ALL: [Self; 4] = [Self::Success, Self::Error, Self::Requeue, Self::RequeueAfter];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Requeue => "requeue",
            Self::RequeueAfter => "requeue_after",
        }
    }
}

/// What became of one write to EC2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MutationResult {
    /// EC2 accepted it.
    Success,
    /// EC2 answered that it will not: a race, a wrong state, a bad parameter.
    Refused,
    /// The caller has not the right (`UnauthorizedOperation`, also for iam:PassRole).
    Denied,
    /// EC2 asked for a slower pace.
    Throttled,
    /// EC2 failed by itself (5xx), or the request was never sent.
    Failed,
    /// No reply came: it may or may not have taken effect.
    Unknown,
}

impl MutationResult {
    /// Every result, so that each series exists from the start.
    pub const ALL: [Self; 6] =
        [Self::Success, Self::Refused, Self::Denied, Self::Throttled, Self::Failed, Self::Unknown];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
            Self::Denied => "denied",
            Self::Throttled => "throttled",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// How an instance that was in agreement with its binding stopped being so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriftCause {
    /// It has no profile where one is declared.
    Detached,
    /// It has another profile than the one declared.
    Replaced,
    /// It has a profile where none is declared.
    Attached,
    /// It has the profile declared, but that profile was deleted and made again under its name.
    Recreated,
}

impl DriftCause {
    /// Every cause, so that each series exists from the start.
    pub const ALL: [Self; 4] = [Self::Detached, Self::Replaced, Self::Attached, Self::Recreated];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Detached => "detached",
            Self::Replaced => "replaced",
            Self::Attached => "attached",
            Self::Recreated => "recreated",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_word_is_itself_and_any_other_is_other() {
        assert_eq!(operation("DescribeInstances"), "DescribeInstances");
        assert_eq!(operation("RunInstances"), OTHER);
        assert_eq!(code("IncorrectState"), "IncorrectState");
        assert_eq!(code("Instance i-0a1b2c3d4e5f60001 is unwell"), OTHER);
        assert_eq!(method("PATCH"), "PATCH");
        assert_eq!(method("BREW"), OTHER);
    }

    #[test]
    fn every_write_is_an_operation() {
        for write in WRITES {
            assert_eq!(operation(write), write);
        }
    }
}

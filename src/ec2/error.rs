//! What AWS's errors mean: one table, one meaning for each code.
//!
//! EC2 models no error types, so codes are matched as text, and where only the words tell, the words
//! (`aws-semantics` 1.5; the recorded replies are the tests).

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::display::DisplayErrorContext;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::gate::Late;
use crate::decide::TroubleKind;
use crate::ids::RoleArn;
use crate::lease::Closed;

/// What an AWS error says about the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The world is not as the request supposed: an association exists, is gone, or was superseded.
    Overtaken,
    /// EC2 does not know the profile: not propagated yet, or not there.
    ProfileUnknown,
    /// EC2 knows no such instance.
    InstanceUnknown,
    /// The instance id can never exist.
    InstanceMalformed,
    /// The instance is in no state that takes the change.
    InstanceState,
    /// An AWS service manages the instance.
    Protected,
    /// A policy denies the action.
    Denied,
    /// The credentials, the clock or the Region are not accepted.
    Credentials,
    /// The role that a grant names cannot be assumed.
    Role,
    /// Too many calls.
    Throttled,
    /// An error of AWS's own.
    Unavailable,
    /// IAM has no such thing.
    NoSuchEntity,
    /// `DryRun=true`: the request would have succeeded.
    DryRunPassed,
    /// A mistake of ours, or something this version does not know.
    Unexpected,
}

/// The table: code, words that the message must contain (empty: any), meaning, source in `aws-semantics`.
const MEANINGS: &[(&str, &str, Meaning, &str)] = &[
    (
        "IncorrectState",
        "InstanceIdentityProfileNotFound",
        Meaning::ProfileUnknown,
        "1.5, terraform-provider-aws#12533",
    ),
    ("IncorrectState", "", Meaning::Overtaken, "CAP-T 1.3"),
    ("IncorrectInstanceState", "", Meaning::InstanceState, "CAP-T 1.3"),
    ("InvalidParameterValue", "Invalid IAM Instance Profile", Meaning::ProfileUnknown, "1.5"),
    ("InvalidParameterValue", "invalid instance-id", Meaning::InstanceMalformed, "CAP-A 1.2"),
    ("InvalidInstanceID.Malformed", "", Meaning::InstanceMalformed, "CAP-T 1.1"),
    ("InvalidInstanceID.NotFound", "", Meaning::InstanceUnknown, "1.5"),
    ("InvalidAssociationID.NotFound", "", Meaning::Overtaken, "CAP-T 1.3"),
    ("NoSuchAssociation", "", Meaning::Overtaken, "1.5"),
    ("OperationNotPermitted", "", Meaning::Protected, "1.6"),
    ("UnauthorizedOperation", "", Meaning::Denied, "CAP-T 1.5"),
    ("AccessDenied", "", Meaning::Denied, "1.5"),
    ("AccessDeniedException", "", Meaning::Denied, "1.5"),
    ("AuthFailure", "", Meaning::Credentials, "1.5"),
    ("ExpiredToken", "", Meaning::Credentials, "1.5"),
    ("ExpiredTokenException", "", Meaning::Credentials, "1.5"),
    ("RequestExpired", "", Meaning::Credentials, "1.5"),
    ("SignatureDoesNotMatch", "", Meaning::Credentials, "1.5"),
    ("InvalidClientTokenId", "", Meaning::Credentials, "1.5"),
    ("MissingAuthenticationToken", "", Meaning::Credentials, "1.5"),
    ("OptInRequired", "", Meaning::Credentials, "1.5"),
    ("UnrecognizedClientException", "", Meaning::Credentials, "1.5"),
    ("RequestLimitExceeded", "", Meaning::Throttled, "2"),
    ("Throttling", "", Meaning::Throttled, "2"),
    ("ThrottlingException", "", Meaning::Throttled, "2"),
    ("ThrottledException", "", Meaning::Throttled, "2"),
    ("RequestThrottled", "", Meaning::Throttled, "2"),
    ("RequestThrottledException", "", Meaning::Throttled, "2"),
    ("TooManyRequestsException", "", Meaning::Throttled, "2"),
    ("BandwidthLimitExceeded", "", Meaning::Throttled, "2"),
    ("LimitExceededException", "", Meaning::Throttled, "2"),
    ("SlowDown", "", Meaning::Throttled, "2"),
    ("PriorRequestNotComplete", "", Meaning::Throttled, "2"),
    ("EC2ThrottledException", "", Meaning::Throttled, "2"),
    ("InternalError", "", Meaning::Unavailable, "1.5"),
    ("InternalFailure", "", Meaning::Unavailable, "1.5"),
    ("Unavailable", "", Meaning::Unavailable, "1.5"),
    ("ServiceUnavailable", "", Meaning::Unavailable, "1.5"),
    ("NoSuchEntity", "", Meaning::NoSuchEntity, "1.5"),
    ("DryRunOperation", "", Meaning::DryRunPassed, "CAP-T 1.1"),
];

/// The meaning of an error reply.
pub fn meaning(code: &str, message: &str, status: u16) -> Meaning {
    MEANINGS
        .iter()
        .find(|(known, words, _, _)| *known == code && message.contains(words))
        .map(|(_, _, meaning, _)| *meaning)
        .unwrap_or(if status >= 500 { Meaning::Unavailable } else { Meaning::Unexpected })
}

/// A call that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// AWS refused it: nothing was changed.
    #[error("{operation}: AWS answered {code}: {message}")]
    Refused {
        /// The operation.
        operation: &'static str,
        /// What the refusal means.
        meaning: Meaning,
        /// AWS's error code.
        code: String,
        /// AWS's words, without the encoded authorization message.
        message: String,
        /// AWS's id of the request.
        request_id: Option<String>,
    },
    /// No reply came, or none that can be read: a write may have been carried out or not.
    #[error("{operation}: no reply from AWS: {cause}")]
    NoReply {
        /// The operation.
        operation: &'static str,
        /// What happened.
        cause: String,
    },
    /// There are no credentials to sign with: nothing was sent.
    #[error("{operation}: no AWS credentials: {cause}")]
    NoCredentials {
        /// The operation.
        operation: &'static str,
        /// What the credential chain said.
        cause: String,
    },
    /// This process does not lead any more: nothing was sent.
    #[error("{operation}: {cause}")]
    NotSent {
        /// The operation.
        operation: &'static str,
        /// What the fence said.
        cause: Closed,
    },
    /// What the call rests on was seen too long ago: nothing was sent.
    #[error("{operation}: {Late}")]
    Late {
        /// The operation.
        operation: &'static str,
    },
    /// The role that is to be assumed is refused to us: nothing was sent.
    #[error("{operation}: role {role} cannot be assumed ({code})")]
    RoleNotAssumable {
        /// The operation.
        operation: &'static str,
        /// The role.
        role: RoleArn,
        /// STS's error code.
        code: &'static str,
    },
}

/// STS's refusals of a role itself. Others speak of the credentials that ask for it, or of the way to STS.
const ROLE_REFUSED: [&str; 4] =
    ["AccessDenied", "RegionDisabledException", "ValidationError", "PackedPolicyTooLarge"];

/// What an error says, and each of its causes that says more.
fn causes(error: &dyn std::error::Error) -> String {
    let said = std::iter::successors(Some(error), |cause| cause.source()).map(ToString::to_string);
    let mut words: Vec<String> = said.collect();
    words.dedup_by(|cause, before| before.contains(&**cause));
    words.join(": ")
}

impl Error {
    /// Reads what the SDK says of a call.
    pub fn from_sdk<E>(
        operation: &'static str,
        role: Option<&RoleArn>,
        error: &SdkError<E, HttpResponse>,
    ) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let whole = || format!("{}", DisplayErrorContext(error));
        let cause = || causes(error).chars().take(300).collect::<String>();
        match error {
            _ if let Some(cause) = among::<Closed>(error) => Self::NotSent { operation, cause },
            _ if among::<Late>(error).is_some() => Self::Late { operation },
            SdkError::ServiceError(service) => {
                let status = service.raw().status().as_u16();
                let Some(code) = error.code() else {
                    // A gateway's page instead of AWS's XML. Below 500 somebody refused; above, who knows.
                    return Self::NoReply {
                        operation,
                        cause: format!("HTTP {status} without an AWS error code"),
                    };
                };
                let message = error.message().unwrap_or_default();
                Self::Refused {
                    operation,
                    meaning: meaning(code, message, status),
                    code: code.to_owned(),
                    message: without_encoded(message),
                    request_id: error.meta().extra("aws_request_id").map(str::to_owned),
                }
            }
            SdkError::DispatchFailure(failure)
                if !failure.is_io() && !failure.is_timeout() && whole().contains("credentials") =>
            {
                let refused = |code: &&str| whole().contains(*code);
                match role.zip(ROLE_REFUSED.into_iter().find(refused)) {
                    Some((role, code)) => Self::RoleNotAssumable { operation, role: role.clone(), code },
                    None => Self::NoCredentials { operation, cause: cause() },
                }
            }
            SdkError::ConstructionFailure(_) => Self::NoCredentials { operation, cause: cause() },
            _ => Self::NoReply { operation, cause: cause() },
        }
    }

    /// What the error says about the world.
    pub fn meaning(&self) -> Meaning {
        match self {
            Self::Refused { meaning, .. } => *meaning,
            Self::NoReply { .. } => Meaning::Unavailable,
            Self::NoCredentials { .. } => Meaning::Credentials,
            Self::RoleNotAssumable { .. } => Meaning::Role,
            Self::NotSent { .. } | Self::Late { .. } => Meaning::Unavailable,
        }
    }

    /// Whether AWS's words name this id.
    pub fn names(&self, id: &str) -> bool {
        let Self::Refused { message, .. } = self else { return false };
        message.split(|sign: char| !sign.is_ascii_alphanumeric() && sign != '-').any(|word| word == id)
    }

    /// Whether a write may have been carried out all the same: no reply came, or AWS failed half-way (5xx).
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Self::NoReply { .. } => true,
            Self::Refused { meaning, .. } => *meaning == Meaning::Unavailable,
            Self::NoCredentials { .. }
            | Self::RoleNotAssumable { .. }
            | Self::NotSent { .. }
            | Self::Late { .. } => false,
        }
    }

    /// The label of metrics and logs.
    pub fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            Self::NoReply { cause, .. } if cause.contains("timeout") || cause.contains("timed out") => {
                crate::telemetry::labels::TIMEOUT
            }
            Self::NoReply { .. } | Self::NoCredentials { .. } => crate::telemetry::labels::NO_REPLY,
            Self::RoleNotAssumable { code, .. } => code,
            Self::NotSent { .. } => "NotSent",
            Self::Late { .. } => "Late",
        }
    }

    /// What to do next, and the words for people.
    pub fn trouble(&self) -> TroubleKind {
        match (self, self.meaning()) {
            (Self::NoReply { operation, .. }, _) => {
                TroubleKind::Unavailable(format!("AWS does not answer {operation}"))
            }
            (
                _,
                Meaning::Overtaken
                | Meaning::InstanceUnknown
                | Meaning::InstanceMalformed
                | Meaning::InstanceState,
            ) => TroubleKind::Overtaken,
            (_, Meaning::ProfileUnknown | Meaning::NoSuchEntity) => TroubleKind::ProfileInvalid,
            (_, Meaning::Protected) => {
                TroubleKind::Protected(format!("an AWS service protects the instance: {self}"))
            }
            (Self::Refused { operation, message, .. }, Meaning::Denied) => {
                TroubleKind::Denied(denied(operation, message))
            }
            // By code: AWS's sentence tells the time, and would change status at every look.
            (_, Meaning::Credentials) => {
                let cure = match self.code() {
                    "OptInRequired" => "the Region is not enabled: opt in to it, or use another one",
                    "RequestExpired" => "check the controller's clock, and whether its session is over",
                    _ => "check its role, its clock and whether the Region is enabled",
                };
                let code = self.code();
                TroubleKind::Credentials(format!(
                    "AWS does not accept the controller's credentials ({code}): {cure}"
                ))
            }
            (Self::RoleNotAssumable { role, code, .. }, _) => TroubleKind::Role(format!(
                "role {role}, which the grant names, cannot be assumed ({code}): let the controller assume it in the role's trust policy (externalId?) and by sts:AssumeRole in the controller's own policy"
            )),
            (_, Meaning::Throttled) => TroubleKind::Throttled,
            (Self::Refused { operation, code, .. }, Meaning::Unavailable) => {
                TroubleKind::Unavailable(format!("AWS answers {operation} with {code}"))
            }
            (
                _,
                Meaning::Denied
                | Meaning::Role
                | Meaning::DryRunPassed
                | Meaning::Unexpected
                | Meaning::Unavailable,
            ) => TroubleKind::Unexpected(self.to_string()),
        }
    }
}

/// The fence's word, where it stopped the call on its way out.
fn among<E: std::error::Error + Copy + 'static>(error: &(dyn std::error::Error + 'static)) -> Option<E> {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.filter_map(|error| error.downcast_ref()).next().copied()
}

/// The encoded authorization message is long, differs each time, and is for administrators of the account only.
fn without_encoded(message: &str) -> String {
    let plain = message.split("Encoded authorization failure message").next().unwrap_or_default();
    plain.trim().chars().take(700).collect()
}

/// Names the action and the resource that were denied, as EC2's words tell them.
fn denied(operation: &str, message: &str) -> String {
    let after = |words: &str| {
        message
            .split(words)
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next())
            .map(|w| w.trim_end_matches(['.', ',']).to_owned())
    };
    let action = after("not authorized to perform: ").unwrap_or_else(|| operation.to_owned());
    let resource = after("on resource: ").map(|r| format!(" on {r}")).unwrap_or_default();
    let who = after("User: ").map(|u| format!(" to {u}")).unwrap_or_default();
    format!(
        "AWS denied {action}{resource}{who}: allow it in the IAM policy of the controller's role (deploy/iam)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_recorded_reply_has_its_meaning() {
        for (code, message, status, expected) in [
            (
                "IncorrectState",
                "There is an existing association for instance i-0123456789abcdef0",
                400,
                Meaning::Overtaken,
            ),
            (
                "IncorrectState",
                "The association iip-assoc-0 is not the active association",
                400,
                Meaning::Overtaken,
            ),
            ("IncorrectState", "Code=InstanceIdentityProfileNotFound ...", 400, Meaning::ProfileUnknown),
            (
                "IncorrectInstanceState",
                "... is not in the 'running' or 'stopped' states.",
                400,
                Meaning::InstanceState,
            ),
            (
                "InvalidParameterValue",
                "Value (x) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name",
                400,
                Meaning::ProfileUnknown,
            ),
            (
                "InvalidParameterValue",
                "Value (x) for parameter iamInstanceProfile.arn is invalid. Invalid IAM Instance Profile ARN",
                400,
                Meaning::ProfileUnknown,
            ),
            ("InvalidParameterValue", "Invalid value for association-id.", 400, Meaning::Unexpected),
            ("InvalidInstanceID.Malformed", "", 400, Meaning::InstanceMalformed),
            ("UnauthorizedOperation", "", 403, Meaning::Denied),
            ("RequestLimitExceeded", "Request limit exceeded.", 503, Meaning::Throttled),
            ("SomethingNew", "", 500, Meaning::Unavailable),
            ("SomethingNew", "", 400, Meaning::Unexpected),
            ("DryRunOperation", "", 412, Meaning::DryRunPassed),
        ] {
            assert_eq!(meaning(code, message, status), expected, "{code}: {message}");
        }
    }

    #[test]
    fn a_denial_names_action_resource_and_principal_and_hides_the_encoded_message() {
        let message = "You are not authorized to perform this operation. User: arn:aws:sts::123456789012:assumed-role/c/s is not authorized \
                       to perform: iam:PassRole on resource: arn:aws:iam::123456789012:role/App because no identity-based policy allows the \
                       iam:PassRole action. Encoded authorization failure message: AbC123";
        let error = Error::Refused {
            operation: "AssociateIamInstanceProfile",
            meaning: Meaning::Denied,
            code: "UnauthorizedOperation".into(),
            message: without_encoded(message),
            request_id: None,
        };
        let TroubleKind::Denied(words) = error.trouble() else { panic!("{error:?}") };
        assert!(words.starts_with("AWS denied iam:PassRole on arn:aws:iam::123456789012:role/App to arn:aws:sts::123456789012:assumed-role/c/s"), "{words}");
        assert!(!error.to_string().contains("AbC123"));
    }

    #[test]
    fn every_code_of_the_table_is_there_once_for_its_words() {
        for (i, (code, words, _, source)) in MEANINGS.iter().enumerate() {
            assert!(!source.is_empty());
            assert!(MEANINGS.iter().skip(i + 1).all(|(c, w, _, _)| c != code || w != words), "{code} twice");
        }
    }
}

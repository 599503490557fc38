//! One row of a plan: one change at EC2, or why there is none.

use serde::Serialize;

use crate::api::binding;
use crate::controller::forecast::{Forecast, Outcome};
use crate::decide::{Carried, Decision, Reason, Step, Write};
use crate::manifest::Problem;

/// A row, as `-o json` prints it. A binding has two of them where the profile of a stopped instance is exchanged: EC2 cannot
/// replace there, so the one is taken off, then the other attached.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    /// `file:line`, or `cluster`.
    pub(super) source: String,
    pub(super) region: Option<String>,
    pub(super) instance_id: Option<String>,
    pub(super) operation: Operation,
    /// The ARN of the profile that the instance carries, or `none`; absent where it is not known or may not be told.
    pub(super) from: Option<String>,
    /// The same of what it is to carry.
    pub(super) to: Option<String>,
    /// Of a change its cause, of all else the reason that conditions show.
    pub(super) reason: String,
    pub(super) message: String,
    /// AWS's own words, where it did not let it be told.
    #[serde(skip)]
    pub(super) failure: Option<String>,
    /// How a problem of a manifest is told.
    #[serde(skip)]
    pub(super) told: Option<String>,
    /// Whether something is going to happen.
    #[serde(skip)]
    pub(super) pending: bool,
    /// The first or the second step.
    #[serde(skip)]
    pub(super) step: usize,
}

/// What `run` would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) enum Operation {
    None,
    AssociateIamInstanceProfile,
    ReplaceIamInstanceProfileAssociation,
    DisassociateIamInstanceProfile,
    Wait,
    Refuse,
}

impl Operation {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::AssociateIamInstanceProfile => "AssociateIamInstanceProfile",
            Self::ReplaceIamInstanceProfileAssociation => "ReplaceIamInstanceProfileAssociation",
            Self::DisassociateIamInstanceProfile => "DisassociateIamInstanceProfile",
            Self::Wait => "Wait",
            Self::Refuse => "Refuse",
        }
    }
}

impl From<binding::Operation> for Operation {
    fn from(operation: binding::Operation) -> Self {
        match operation {
            binding::Operation::AssociateIamInstanceProfile => Self::AssociateIamInstanceProfile,
            binding::Operation::ReplaceIamInstanceProfileAssociation => {
                Self::ReplaceIamInstanceProfileAssociation
            }
            binding::Operation::DisassociateIamInstanceProfile => Self::DisassociateIamInstanceProfile,
        }
    }
}

/// The reason of a row about a manifest that cannot be applied.
const INVALID: &str = "InvalidManifest";

impl Row {
    /// What is wrong with a manifest.
    pub(super) fn problem(problem: Problem) -> Self {
        let told = Some(problem.to_string());
        let Problem { source, field, what, object } = problem;
        let message = if field.is_empty() { what } else { format!("{field}: {what}") };
        Self {
            namespace: object.namespace,
            name: object.name,
            source: source.to_string(),
            region: object.region,
            instance_id: object.instance,
            operation: Operation::Refuse,
            from: None,
            to: None,
            reason: INVALID.to_owned(),
            message,
            failure: None,
            told,
            pending: false,
            step: 0,
        }
    }

    /// By what rows are sorted.
    pub(super) fn place(&self) -> (Option<&str>, Option<&str>, (&str, u64), usize) {
        let (file, line) = self.source.rsplit_once(':').unwrap_or((&self.source, ""));
        (self.namespace.as_deref(), self.name.as_deref(), (file, line.parse().unwrap_or_default()), self.step)
    }

    /// Whether nothing is to be told of it but that it is as declared.
    pub(super) fn is_unchanged(&self) -> bool {
        let settled = [Reason::Associated, Reason::Disassociated].map(Reason::as_str);
        self.operation == Operation::None && settled.contains(&self.reason.as_str())
    }
}

/// The rows of one binding.
pub(super) fn rows(forecast: Forecast, source: String, on_conflict: Option<&str>) -> Vec<Row> {
    let Forecast { key, region, instance, outcome } = forecast;
    let blank = Row {
        namespace: Some(key.namespace),
        name: Some(key.name),
        source,
        region: region.map(|region| region.to_string()),
        instance_id: Some(instance),
        operation: Operation::None,
        from: None,
        to: None,
        reason: String::new(),
        message: String::new(),
        failure: None,
        told: None,
        pending: false,
        step: 0,
    };
    match outcome {
        Outcome::Malformed(words) => {
            vec![Row { operation: Operation::Refuse, reason: INVALID.to_owned(), message: words, ..blank }]
        }
        Outcome::Unseen(decision, words) => {
            let row = standing(&decision, blank);
            vec![Row { failure: Some(words), ..row }]
        }
        Outcome::Decided { decision, carries, wanted } => {
            if let Step::Write(write) = &decision.step {
                return changes(&decision, write, &blank);
            }
            let text = |carried: Option<Carried>| carried.map(|carried| carried.as_str().to_owned());
            let mut row = standing(&decision, Row { from: text(carries), to: text(wanted), ..blank });
            if decision.reason == Reason::Conflict {
                row.message.push_str(on_conflict.unwrap_or_default());
            }
            // Only AWS can tell more.
            let untold = matches!(decision.reason, Reason::AWSUnavailable | Reason::AccessDenied);
            row.failure = untold.then(|| row.message.clone());
            vec![row]
        }
    }
}

/// The change, and the one that follows from it on a stopped instance.
fn changes(decision: &Decision, write: &Write, blank: &Row) -> Vec<Row> {
    let reason = |step: usize| {
        let cause = decision.plan.get(step).map(|(_, cause)| cause.as_str());
        cause.unwrap_or(decision.reason.as_str()).to_owned()
    };
    let first = Row {
        operation: write.operation().into(),
        from: Some(write.from().as_str().to_owned()),
        to: Some(write.to().as_str().to_owned()),
        reason: reason(0),
        message: decision.message.clone(),
        pending: true,
        ..blank.clone()
    };
    let second = write.then().map(|profile| Row {
        operation: Operation::AssociateIamInstanceProfile,
        from: Some(Carried::Nothing.as_str().to_owned()),
        to: Some(profile.as_str().to_owned()),
        reason: reason(1),
        message: format!("attaching {profile} after that"),
        step: 1,
        ..first.clone()
    });
    std::iter::once(first).chain(second).collect()
}

/// A row for a decision to change nothing now.
fn standing(decision: &Decision, blank: Row) -> Row {
    let Decision { step, reason, message, plan, .. } = decision;
    let operation = match (step, reason) {
        // The controller waits two minutes for IAM to know it; a plan is asked for an answer.
        (Step::Wait, Reason::ProfileNotFound) => Operation::Refuse,
        (Step::Wait | Step::Look(_), _) => Operation::Wait,
        // It is left alone as it was asked to be.
        (Step::Refuse, Reason::ObserveOnly) | (Step::Hold, _) => Operation::None,
        (Step::Refuse, _) => Operation::Refuse,
        (Step::Converged | Step::Release(_), _) => Operation::None,
        (Step::Write(write), _) => write.operation().into(),
    };
    // What EC2 is about already needs nothing more from us.
    let under_way = matches!(reason, Reason::Associating | Reason::Replacing | Reason::Disassociating);
    let pending = operation == Operation::Wait && !(under_way && plan.is_empty());
    Row { operation, reason: reason.as_str().to_owned(), message: message.clone(), pending, ..blank }
}

/// What a plan comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Nothing,
    Pending,
    Refused,
    Unknown,
}

impl Verdict {
    pub(super) fn of(rows: &[Row]) -> Self {
        if rows.iter().any(|row| row.failure.is_some()) {
            Self::Unknown
        } else if rows.iter().any(|row| row.operation == Operation::Refuse) {
            Self::Refused
        } else if rows.iter().any(|row| row.pending) {
            Self::Pending
        } else {
            Self::Nothing
        }
    }

    pub(super) fn exit_code(self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::Unknown => 1,
            Self::Pending => 2,
            Self::Refused => 3,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cli::plan) fn row(name: &str, operation: Operation) -> Row {
        let arn = |name: &str| Some(format!("arn:aws:iam::123456789012:instance-profile/team/{name}"));
        let reason = if operation == Operation::None { "Associated" } else { "Declared" };
        Row {
            namespace: Some("team-a".into()),
            name: Some(name.into()),
            source: "a.yaml:7".into(),
            region: Some("eu-west-1".into()),
            instance_id: Some("i-0123456789abcdef0".into()),
            operation,
            from: arn("old"),
            to: arn("new"),
            reason: reason.into(),
            message: "replacing old by new".into(),
            failure: None,
            told: None,
            pending: !matches!(operation, Operation::None | Operation::Refuse),
            step: 0,
        }
    }

    #[test]
    fn what_could_not_be_told_goes_before_what_is_refused_and_that_before_what_is_pending() {
        let (done, due) =
            (row("a", Operation::None), row("b", Operation::ReplaceIamInstanceProfileAssociation));
        let (refused, wait) = (row("c", Operation::Refuse), row("d", Operation::Wait));
        let unseen = Row { failure: Some("denied".into()), ..row("e", Operation::Wait) };
        let code = |rows: &[&Row]| {
            let rows: Vec<Row> = rows.iter().map(|row| (*row).clone()).collect();
            Verdict::of(&rows).exit_code()
        };
        assert_eq!(code(&[]), 0);
        assert_eq!(code(&[&done]), 0);
        assert_eq!(code(&[&done, &wait]), 2);
        assert_eq!(code(&[&due, &done]), 2);
        assert_eq!(code(&[&due, &refused, &done]), 3);
        assert_eq!(code(&[&refused, &unseen, &due]), 1);
    }

    #[test]
    fn a_row_has_just_the_fields_that_are_promised() {
        let json = serde_json::to_value(row("a", Operation::Refuse)).unwrap();
        let fields: Vec<&String> = json.as_object().unwrap().keys().collect();
        let promised = [
            "from",
            "instanceId",
            "message",
            "name",
            "namespace",
            "operation",
            "reason",
            "region",
            "source",
            "to",
        ];
        assert_eq!(fields, promised);
    }

    #[test]
    fn lines_are_sorted_as_numbers() {
        let at = |source: &str| Row { source: source.into(), ..row("a", Operation::None) };
        assert!(at("a.yaml:9").place() < at("a.yaml:10").place());
        assert!(at("a.yaml:10").place() < at("b.yaml:1").place());
    }
}

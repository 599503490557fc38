//! The reasons: one enum, from which conditions, cadence, documentation and metric labels follow.

use std::time::Duration;

use super::{Evidence, Step};

/// The reason of the condition `Authorized` where a grant covers the binding: of it alone there is one that no row has.
pub const GRANTED: &str = "Granted";

/// Why a binding is where it is. The names are stable API: they stand in conditions, Events and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The instance carries the profile.
    Associated,
    /// The instance carries no profile, as declared.
    Disassociated,
    /// A profile is being attached.
    Associating,
    /// A profile is being exchanged.
    Replacing,
    /// A profile is being taken off.
    Disassociating,
    /// EC2 knows no such instance (yet).
    InstanceNotFound,
    /// The instance is starting.
    InstancePending,
    /// The instance is stopping.
    InstanceStopping,
    /// The instance is shutting down or gone.
    InstanceTerminated,
    /// The instance may not be changed.
    InstanceProtected,
    /// The exchange waits until the instance runs.
    WaitingForRunning,
    /// IAM has no such instance profile.
    ProfileNotFound,
    /// IAM has the instance profile, EC2 does not know it yet.
    ProfileNotPropagated,
    /// The instance profile holds no role.
    ProfileWithoutRole,
    /// The profile was deleted and made again, and EC2 keeps the old association.
    ProfileRecreated,
    /// The role is in several instance profiles.
    RoleAmbiguous,
    /// EC2 may not assume the role of the profile.
    TrustPolicyBroken,
    /// The instance already carries another profile, and adoptionPolicy leaves it.
    NotAdopted,
    /// Another binding has this instance.
    Conflict,
    /// No grant covers the binding.
    NotAuthorized,
    /// AWS denied an action to the controller.
    AccessDenied,
    /// AWS does not accept the controller's credentials, or there are none.
    CredentialsUnavailable,
    /// EC2 throttles.
    Throttled,
    /// The change waits for its turn within EC2's limits.
    BudgetExhausted,
    /// AWS does not answer, or not as expected.
    AWSUnavailable,
    /// The binding is suspended.
    Suspended,
    /// The binding only observes.
    ObserveOnly,
    /// The AWS role that the grant names cannot be assumed.
    RoleNotAssumable,
    /// The controller runs with another Region or account than the binding was carried out with.
    RegionChanged,
    /// Others keep changing the instance, so the repair waits.
    OutsideWriter,
    /// Too many repairs were due in the namespace at once.
    CircuitOpen,
}

/// When to look again where no event says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cadence {
    /// The shared listing tells; nothing of its own.
    Listing,
    /// Every so long, beginning with `first` and doubling to `most`.
    Poll {
        /// The first interval.
        first: Duration,
        /// The longest interval.
        most: Duration,
    },
    /// Once in each pass, together with all others that wait.
    EachPass,
    /// When the pacer says that it is this binding's turn.
    Turn,
}

const fn poll(first: u64, most: u64) -> Cadence {
    Cadence::Poll { first: Duration::from_secs(first), most: Duration::from_secs(most) }
}

/// What needs a person: 15 s doubling to 30 min, so that a broken binding never costs much and always heals.
const SLOWLY: Cadence = poll(15, 30 * 60);

impl Reason {
    /// All reasons, in the order of the documentation.
    pub const ALL: [Self; 31] = [
        Self::Associated,
        Self::Disassociated,
        Self::Associating,
        Self::Replacing,
        Self::Disassociating,
        Self::InstanceNotFound,
        Self::InstancePending,
        Self::InstanceStopping,
        Self::InstanceTerminated,
        Self::InstanceProtected,
        Self::WaitingForRunning,
        Self::ProfileNotFound,
        Self::ProfileNotPropagated,
        Self::ProfileWithoutRole,
        Self::ProfileRecreated,
        Self::RoleAmbiguous,
        Self::TrustPolicyBroken,
        Self::NotAdopted,
        Self::Conflict,
        Self::NotAuthorized,
        Self::AccessDenied,
        Self::CredentialsUnavailable,
        Self::Throttled,
        Self::BudgetExhausted,
        Self::AWSUnavailable,
        Self::Suspended,
        Self::ObserveOnly,
        Self::RoleNotAssumable,
        Self::RegionChanged,
        Self::OutsideWriter,
        Self::CircuitOpen,
    ];

    /// The text in conditions, Events and metric labels: the variant's name.
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// When to look again while this is the reason.
    pub fn cadence(self) -> Cadence {
        self.row().1
    }

    /// What to look at when its time has come.
    pub fn evidence(self) -> Evidence {
        let (associations, instance, profile) = match self {
            Self::Associating | Self::Replacing | Self::Disassociating => (true, false, false),
            Self::InstanceNotFound
            | Self::InstancePending
            | Self::InstanceStopping
            | Self::WaitingForRunning => (false, true, false),
            Self::ProfileNotPropagated => (true, false, false),
            Self::ProfileNotFound | Self::RoleAmbiguous | Self::ProfileWithoutRole => (false, false, true),
            Self::Associated
            | Self::Disassociated
            | Self::InstanceTerminated
            | Self::InstanceProtected
            | Self::ProfileRecreated
            | Self::TrustPolicyBroken
            | Self::NotAdopted
            | Self::Conflict
            | Self::NotAuthorized
            | Self::AccessDenied
            | Self::CredentialsUnavailable
            | Self::Throttled
            | Self::BudgetExhausted
            | Self::AWSUnavailable
            | Self::Suspended
            | Self::ObserveOnly
            | Self::RoleNotAssumable
            | Self::RegionChanged
            | Self::OutsideWriter
            | Self::CircuitOpen => (true, true, true),
        };
        Evidence { associations, instance, profile }
    }

    /// Whether another state of the instance may end it, so that the state is looked at in each pass.
    pub fn hangs_on_instance(self) -> bool {
        matches!(self, Self::ProfileRecreated | Self::TrustPolicyBroken)
    }

    /// What it means, for the documentation.
    pub fn meaning(self) -> &'static str {
        self.row().2
    }

    /// What to do about it, for the documentation.
    pub fn cure(self) -> &'static str {
        self.row().3
    }

    /// The one table: name, cadence, meaning, cure.
    fn row(self) -> (&'static str, Cadence, &'static str, &'static str) {
        use Cadence::{EachPass, Listing, Turn};
        match self {
            Self::Associated => {
                ("Associated", Listing, "The instance carries the profile.", "Nothing to do.")
            }
            Self::Disassociated => {
                ("Disassociated", Listing, "The instance carries no profile, as declared.", "Nothing to do.")
            }
            Self::Associating => (
                "Associating",
                poll(1, 30),
                "The profile is being attached; EC2 shows the association as `associating`.",
                "Wait: it takes EC2 up to a minute or two. On a stopped instance it may last until the instance is started.",
            ),
            Self::Replacing => (
                "Replacing",
                poll(1, 30),
                "The profile of a running instance is being exchanged; its workload keeps credentials throughout.",
                "Wait: it takes EC2 up to a minute or two.",
            ),
            Self::Disassociating => (
                "Disassociating",
                poll(1, 30),
                "The profile is being taken off.",
                "Wait: it takes EC2 some seconds.",
            ),
            Self::InstanceNotFound => (
                "InstanceNotFound",
                EachPass,
                "EC2 knows no such instance in this account and Region.",
                "If the instance is still to be launched, nothing: the profile is attached once it is there. Otherwise check spec.instanceId, spec.region and the controller's account.",
            ),
            Self::InstancePending => (
                "InstancePending",
                poll(2, 15),
                "The instance is starting, and EC2 refuses changes until it runs.",
                "Wait.",
            ),
            Self::InstanceStopping => (
                "InstanceStopping",
                poll(2, 15),
                "The instance is stopping, and EC2 refuses changes until it is stopped.",
                "Wait.",
            ),
            Self::InstanceTerminated => (
                "InstanceTerminated",
                SLOWLY,
                "The instance is shutting down, terminated or gone.",
                "Delete the binding. A replacement instance has another id and needs a binding of its own.",
            ),
            Self::InstanceProtected => (
                "InstanceProtected",
                SLOWLY,
                "The instance is managed by an AWS service, which allows nobody to change its profile; or it is a node of a cluster, or the controller's own, and no grant names it by id.",
                "Delete the binding, and set the role where the managing service or the node group takes it from. If a node is really meant, ask an administrator for a grant that names its id in spec.instances.ids.",
            ),
            Self::WaitingForRunning => (
                "WaitingForRunning",
                EachPass,
                "The instance is stopped with another profile, and spec.whenStopped is WaitForRunning.",
                "Start the instance, or set spec.whenStopped to DetachThenAttach.",
            ),
            Self::ProfileNotFound => (
                "ProfileNotFound",
                SLOWLY,
                "IAM has no such instance profile (or the role is in none).",
                "Create the instance profile, or correct spec.instanceProfile. Profile and role are two things and may have different names; IAM's names are told with their true letter case.",
            ),
            Self::ProfileNotPropagated => (
                "ProfileNotPropagated",
                poll(2, 30),
                "IAM has the instance profile, but EC2 does not know it yet, as happens for seconds to minutes after it was created.",
                "Wait.",
            ),
            Self::ProfileWithoutRole => (
                "ProfileWithoutRole",
                SLOWLY,
                "The instance profile holds no role, so it would give no permissions.",
                "Add a role: aws iam add-role-to-instance-profile.",
            ),
            Self::ProfileRecreated => (
                "ProfileRecreated",
                SLOWLY,
                "The profile was deleted and made again under its name. The instance still carries the old one, and Replace with the new one changed nothing.",
                "Stop the instance, or detach the profile by hand while its workload can bear it; the controller then attaches the new one.",
            ),
            Self::RoleAmbiguous => (
                "RoleAmbiguous",
                SLOWLY,
                "The role is in several instance profiles; which one is meant is not guessed.",
                "Name the profile by spec.instanceProfile.name or arn (delete and make the choice explicit).",
            ),
            Self::TrustPolicyBroken => (
                "TrustPolicyBroken",
                SLOWLY,
                "The association has stayed `associating` for over two minutes on a running instance: EC2 most likely may not assume the role.",
                "Let ec2.amazonaws.com (ec2.amazonaws.com.cn in China) assume the role in its trust policy.",
            ),
            Self::NotAdopted => (
                "NotAdopted",
                SLOWLY,
                "The instance already carries another profile, and spec.adoptionPolicy is OnlyIfNone.",
                "Set spec.adoptionPolicy to Replace, or take the other profile off.",
            ),
            Self::Conflict => (
                "Conflict",
                Listing,
                "An older binding declares the same instance, so this one writes nothing; or the grants that cover it name different AWS roles.",
                "Delete one of the two bindings; when the other one goes, this one takes over without a gap. Grants: have them name the same role, or narrow one of them.",
            ),
            Self::NotAuthorized => (
                "NotAuthorized",
                Listing,
                "No InstanceRoleGrant covers this namespace, profile and instance. Nothing is told of the instance, not even whether it is there; what it carries stays as it is.",
                "Ask an administrator for a grant, or for a wider one.",
            ),
            Self::AccessDenied => (
                "AccessDenied",
                SLOWLY,
                "AWS denied an action to the controller; the message names action and resource.",
                "Allow it in the controller's IAM policy (deploy/iam), and look for an SCP or a permissions boundary.",
            ),
            Self::CredentialsUnavailable => (
                "CredentialsUnavailable",
                poll(5, 60),
                "The controller has no AWS credentials, or AWS does not accept them, or the Region is not enabled.",
                "Check the controller's service account (IRSA or Pod Identity), its clock, and whether the account has opted in to the Region.",
            ),
            Self::Throttled => (
                "Throttled",
                poll(2, 60),
                "EC2 throttles this account's calls.",
                "Wait: the change is made when its turn comes. If it lasts, find who else calls EC2 in this account and Region.",
            ),
            Self::BudgetExhausted => (
                "BudgetExhausted",
                Turn,
                "The change waits for its turn within EC2's limits for this account and Region.",
                "Wait, or raise --aws-budget-share, or have AWS raise the limits and say so by --aws-budget.",
            ),
            Self::AWSUnavailable => (
                "AWSUnavailable",
                poll(2, 60),
                "AWS does not answer, answers with errors, or in a way this version does not know.",
                "Wait. If it lasts, check the network from the controller to EC2, IAM and STS, and the AWS status page.",
            ),
            Self::Suspended => (
                "Suspended",
                Listing,
                "spec.suspend is true: the difference is told and nothing is changed.",
                "Set spec.suspend to false.",
            ),
            Self::ObserveOnly => (
                "ObserveOnly",
                Listing,
                "The binding only observes (spec.mode, --default-mode or --dry-run), and the instance differs.",
                "Set spec.mode to Enforce to have the change made.",
            ),
            Self::RoleNotAssumable => (
                "RoleNotAssumable",
                SLOWLY,
                "The AWS role that the grant names in spec.aws cannot be assumed by the controller.",
                "Let the controller's role assume it: in its trust policy (with the grant's externalId, if it names one) and by sts:AssumeRole in the controller's own policy (deploy/iam).",
            ),
            Self::RegionChanged => (
                "RegionChanged",
                SLOWLY,
                "The controller runs with another Region or account than this binding was carried out with, so it knows nothing of the instance.",
                "Run the controller with its former Region and credentials, or delete the binding with the annotation instancerole.dev/force-release and make it again.",
            ),
            Self::OutsideWriter => (
                "OutsideWriter",
                Listing,
                "Others changed the profile of this instance at least four times within an hour (condition `Contended`), so the repair waits: 30 s, doubling to 10 minutes.",
                "Find who, by CloudTrail (AssociateIamInstanceProfile, ReplaceIamInstanceProfileAssociation, DisassociateIamInstanceProfile), and have one of the two let go. An edit of the spec or instancerole.dev/requestedAt ends the wait.",
            ),
            Self::CircuitOpen => (
                "CircuitOpen",
                SLOWLY,
                "More repairs of drift were due in this namespace at once than --max-changes-per-pass allows, so none of them is made.",
                "Find out what changed so many instances. If the repairs are right, an administrator annotates a grant of the namespace with instancerole.dev/approve-changes and the id that the message names; it ends by itself when the drift does.",
            ),
        }
    }
}

/// How kstatus and people read a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// As declared.
    Done,
    /// Work is under way, or the world is awaited.
    Reconciling,
    /// A person is needed, or a long wait.
    Stalled,
    /// Nothing is under way because it was so asked.
    Held,
}

impl Step {
    /// The name of the step, for spans.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Converged => "Converged",
            Self::Wait => "Wait",
            Self::Refuse => "Refuse",
            Self::Hold => "Hold",
            Self::Look(_) => "Look",
            Self::Write(_) => "Write",
            Self::Release(_) => "Release",
        }
    }

    /// The phase that this step puts the binding into.
    pub fn phase(&self) -> Phase {
        match self {
            Self::Converged | Self::Release(_) => Phase::Done,
            Self::Wait | Self::Look(_) | Self::Write(_) => Phase::Reconciling,
            Self::Refuse => Phase::Stalled,
            Self::Hold => Phase::Held,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages;

    #[test]
    fn a_reason_is_listed_once_under_its_own_name() {
        for (i, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(format!("{reason:?}"), reason.as_str());
            assert!(!Reason::ALL.iter().skip(i + 1).any(|other| other == reason));
        }
    }

    /// The page's table is this file's table.
    #[test]
    fn the_page_of_reasons_tells_each_with_cause_and_cure() {
        let rows = Reason::ALL.map(|reason| {
            [format!("`{}`", reason.as_str()), reason.meaning().to_owned(), reason.cure().to_owned()]
        });
        let table = pages::table(["reason", "what is", "what to do"], rows);
        pages::keep("docs/reasons.md", "reasons", &table);
    }

    /// What needs a person has a row that says what to run.
    #[test]
    fn troubleshooting_knows_each_reason_that_needs_a_person() {
        let page = pages::read("docs/troubleshooting.md");
        let (_, rows) = page.split_once("## By reason").unwrap();
        let told = |reason: &Reason| rows.contains(&format!("`{}`", reason.as_str()));
        let slow = Reason::ALL.into_iter().filter(|reason| reason.cadence() == SLOWLY);
        let untold: Vec<Reason> = slow.filter(|reason| !told(reason)).collect();
        assert_eq!(untold, []);
    }
}

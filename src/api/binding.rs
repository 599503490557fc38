//! `InstanceRoleBinding`: the desired instance profile of one EC2 instance, and what came of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The IAM instance profile that one EC2 instance must carry, or that it must carry none.
///
/// The controller compares it with the associations that EC2 has and associates, replaces or disassociates
/// until they agree, and again whenever they stop agreeing.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[kube(
    group = "instancerole.dev",
    version = "v1alpha1",
    kind = "InstanceRoleBinding",
    namespaced,
    status = "InstanceRoleBindingStatus",
    shortname = "irb",
    category = "aws",
    derive = "PartialEq",
    doc = "Declares the IAM instance profile that one EC2 instance must carry, or that it must carry none.",
    selectable = ".spec.instanceId",
    selectable = ".spec.instanceProfile.name",
    printcolumn(name = "Instance", type_ = "string", json_path = ".spec.instanceId"),
    printcolumn(name = "Profile", type_ = "string", json_path = ".status.profile"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Synced",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Synced\")].status",
        priority = 1
    ),
    printcolumn(name = "Mode", type_ = "string", json_path = ".status.mode", priority = 1),
    printcolumn(
        name = "Observed",
        type_ = "string",
        json_path = ".status.observed.profileArn",
        priority = 1
    ),
    printcolumn(
        name = "Association",
        type_ = "string",
        json_path = ".status.observed.associationId",
        priority = 1
    )
)]
#[x_kube(
    validation = Rule::new("has(self.region) == has(oldSelf.region) && (!has(self.region) || self.region == oldSelf.region)")
        .message("region is immutable: it can be neither changed, added nor removed; make a new binding and delete this one")
        .field_path(".region"),
    validation = Rule::new("!(has(self.instanceProfile.none) && self.adoptionPolicy == 'OnlyIfNone')")
        .message("adoptionPolicy OnlyIfNone cannot go with instanceProfile.none: an instance without a profile has nothing to adopt; use Replace")
        .field_path(".adoptionPolicy")
)]
#[serde(rename_all = "camelCase")]
pub struct InstanceRoleBindingSpec {
    /// The EC2 instance, `i-` and 8 or 17 hexadecimal digits. Immutable: make a new binding for another
    /// instance. The instance may be launched later than the binding is made.
    #[schemars(regex(pattern = r"^i-([0-9a-f]{8}|[0-9a-f]{17})$"), length(max = 64))]
    #[x_kube(
        validation = Rule::new("self == oldSelf").message("instanceId is immutable: make a new binding for another instance and delete this one"),
        validation = Rule::new("self.matches('^i-([0-9a-f]{8}|[0-9a-f]{17})$')").message("instanceId must be `i-` followed by 8 or 17 lower-case hexadecimal digits, such as i-0123456789abcdef0")
    )]
    pub instance_id: String,

    /// The AWS Region of the instance, such as eu-west-1. Left out, it is the controller's own Region.
    /// Immutable: it can be neither changed, added nor removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z]{2,}(-[a-z]+)+-[0-9]+$"), length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z]{2,}(-[a-z]+)+-[0-9]+$')").message("region must be the name of an AWS Region, such as eu-west-1"))]
    pub region: Option<String>,

    /// The instance profile that the instance must carry: exactly one of name, arn, roleName or none.
    pub instance_profile: InstanceProfile,

    /// Whether the controller may change the instance (Enforce) or only tells the difference (Observe).
    /// Left out, it is the controller's --default-mode, which is Enforce unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,

    /// What to do with an instance that already carries another profile when the binding first meets it:
    /// Replace it, or leave it and say so (OnlyIfNone). It speaks until the binding was once in sync.
    #[serde(default)]
    pub adoption_policy: AdoptionPolicy,

    /// How a profile is exchanged on a stopped instance, where EC2 cannot replace: detach, then attach
    /// (DetachThenAttach), or wait until the instance runs (WaitForRunning).
    #[serde(default)]
    pub when_stopped: WhenStopped,

    /// What deleting this binding does to the instance: Detach the profile, Retain it, or Restore what was
    /// found before the first change. Left out, it is the controller's --default-deletion-policy, which is
    /// Detach unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,

    /// true stops all changes to the instance; looking and telling go on.
    #[serde(default)]
    pub suspend: bool,
}

/// Exactly one of `name`, `arn`, `roleName` and `none`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, Hash)]
#[x_kube(
    validation = Rule::new("(has(self.name) ? 1 : 0) + (has(self.arn) ? 1 : 0) + (has(self.roleName) ? 1 : 0) + (has(self.none) ? 1 : 0) == 1")
        .message("instanceProfile must have exactly one of name, arn, roleName and none; for no role write `none: {}`")
)]
#[serde(rename_all = "camelCase")]
pub struct InstanceProfile {
    /// The instance profile's name, without path. It is looked up in IAM, in the controller's account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9_+=,.@-]{1,128}$"), length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_+=,.@-]{1,128}$')").message("name must be the instance profile's name alone, 1 to 128 of letters, digits and _+=,.@- : no ARN (use arn), no path or slash (use arn), no wildcard"))]
    pub name: Option<String>,

    /// The instance profile's ARN, path included; not the ARN of a role. Any partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        regex(
            pattern = r"^arn:aws[a-z-]*:iam::[0-9]{12}:instance-profile/([!-)+-~]+/)*[A-Za-z0-9_+=,.@-]{1,128}$"
        ),
        length(max = 1024)
    )]
    #[x_kube(validation = Rule::new("self.matches('^arn:aws[a-z-]*:iam::[0-9]{12}:instance-profile/([!-)+-~]+/)*[A-Za-z0-9_+=,.@-]{1,128}$')").message("arn must be the ARN of an instance profile, such as arn:aws:iam::123456789012:instance-profile/path/name: not of a role (use roleName), no wildcard"))]
    pub arn: Option<String>,

    /// The name of an IAM role; the one instance profile that holds it is looked up in IAM. A role in no
    /// profile, or in several, is told and never guessed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9_+=,.@-]{1,64}$"), length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_+=,.@-]{1,64}$')").message("roleName must be the role's name alone, 1 to 64 of letters, digits and _+=,.@- : no ARN, no path or slash, no wildcard"))]
    pub role_name: Option<String>,

    /// `none: {}` — "No IAM role": the instance must carry no instance profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub none: Option<NoProfile>,
}

/// The empty object of `none: {}`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NoProfile {}

/// Whether the controller may change the instance (Enforce) or only tells the difference (Observe). Left out,
/// it is the controller's --default-mode, which is Enforce unless set.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub enum Mode {
    /// Change the instance until it agrees.
    #[default]
    Enforce,
    /// Report the difference, never write.
    Observe,
}

/// What to do with an instance that already carries another profile.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub enum AdoptionPolicy {
    /// Replace it.
    #[default]
    Replace,
    /// Leave it and say so.
    OnlyIfNone,
}

/// How a profile is exchanged on a stopped instance.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub enum WhenStopped {
    /// Detach the old one, then attach the new one.
    #[default]
    DetachThenAttach,
    /// Leave the old one until the instance runs.
    WaitForRunning,
}

/// What deleting this binding does to the instance: Detach the profile, Retain it, or Restore what was found
/// before the first change. Left out, it is the controller's --default-deletion-policy, which is Detach unless set.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub enum DeletionPolicy {
    /// Detach what this binding attached or matched.
    #[default]
    Detach,
    /// Leave the instance as it is.
    Retain,
    /// Put back what was found before the first change.
    Restore,
}

/// What the controller found and did. Nothing in it changes on a pass that did nothing.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct InstanceRoleBindingStatus {
    /// The generation of spec that this status speaks of; -1 before the first look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The Region in force, written before the first change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The AWS account in force, written before the first change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The mode in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The deletion policy in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// The name of the instance profile that is wanted, resolved; `none` where none is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// What is wanted, resolved by IAM; absent while it is not resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<ProfileOrNone>,
    /// The association that EC2 shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<ObservedAssociation>,
    /// What the instance carried before this binding's first change; written once, for Restore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<ProfileOrNone>,
    /// true once the binding was in sync; from then on adoptionPolicy no longer speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<bool>,
    /// The changes made at EC2, newest first, at most 5. An entry without requestId was begun and its
    /// outcome is not known yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub changes: Vec<Change>,
    /// The changes that are due, in order; absent when nothing is due.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub plan: Vec<PlannedChange>,
    /// The grant that covers this binding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// The value of the annotation instancerole.dev/requestedAt whose look was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_requested_at: Option<String>,
    /// Ready, Synced and Authorized always; Reconciling, Stalled, Contended and Suspended while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// A profile, or that there is none.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct ProfileOrNone {
    /// The instance profile's ARN (its name alone where the controller may not read IAM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile_arn: Option<String>,
    /// true: no instance profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub none: Option<bool>,
}

/// An association as EC2 showed it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct ObservedAssociation {
    /// The ARN of the profile that the instance carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile_arn: Option<String>,
    /// The unique id of that profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile_id: Option<String>,
    /// The id of the association.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub association_id: Option<String>,
    /// associating, associated or disassociating.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub association_state: Option<String>,
}

/// One change made at EC2, or begun.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The EC2 operation.
    pub operation: Operation,
    /// The profile ARN that the instance carried before, or `none`.
    pub from: String,
    /// The profile ARN that the instance was to carry after, or `none`.
    pub to: String,
    /// The profile that is attached next, where this is the first half of a swap on a stopped instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<String>,
    /// When it was begun.
    pub at: Time,
    /// The request id of EC2's reply; absent while the outcome is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// One change that is due.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct PlannedChange {
    /// The EC2 operation.
    pub operation: Operation,
    /// Why it is due: Declared, DriftDetected, ProfileRecreated or Deleted.
    pub reason: String,
}

/// The three operations of EC2 that change an association.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Attaches a profile to an instance that has none.
    AssociateIamInstanceProfile,
    /// Exchanges the profile of a running instance.
    ReplaceIamInstanceProfileAssociation,
    /// Takes the profile off an instance.
    DisassociateIamInstanceProfile,
}

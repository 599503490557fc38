//! `InstanceRoleGrant`: which namespace may put which instance profile on which instance.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Lets namespaces put instance profiles on instances. Deny by default: a binding that no grant covers is
/// never carried out. The rights of several grants add up; each right comes whole from one grant.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "instancerole.dev",
    version = "v1alpha1",
    kind = "InstanceRoleGrant",
    shortname = "irg",
    category = "aws",
    derive = "PartialEq",
    doc = "Lets namespaces put instance profiles on EC2 instances; what no grant covers is never carried out.",
    printcolumn(name = "Namespaces", type_ = "string", json_path = ".spec.namespaces.names"),
    printcolumn(name = "Profiles", type_ = "string", json_path = ".spec.instanceProfiles"),
    printcolumn(name = "None", type_ = "boolean", json_path = ".spec.allowNone"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct InstanceRoleGrantSpec {
    /// The namespaces whose bindings this grant covers: those named, and those the selector matches.
    pub namespaces: Namespaces,

    /// The instance profiles that may be attached: exact names, exact ARNs, or an ARN with its account's twelve
    /// digits that ends in a `*` right after a `/`, for a path. A bare `*` is refused.
    #[schemars(
        length(min = 1, max = 100),
        inner(
            length(min = 1, max = 1024),
            regex(
                pattern = r"^([A-Za-z0-9_+=,.@-]{1,128}|arn:aws[a-z-]*:iam::[0-9]{12}:instance-profile/([!-)+-~]+/)*([A-Za-z0-9_+=,.@-]{1,128}|\*))$"
            )
        )
    )]
    #[x_kube(validation = Rule::new("self.all(p, p.matches('^([A-Za-z0-9_+=,.@-]+|arn:aws[a-z-]*:iam::[0-9]{12}:instance-profile/.*)$'))")
        .message("each of instanceProfiles must be an instance profile's name, its ARN, or its ARN with the account's twelve digits and `*` right after a `/`; a bare `*` and the ARN of a role are refused"))]
    pub instance_profiles: Vec<String>,

    /// The instances that may be changed. At least one of regions, tags and ids; all that is given must hold.
    pub instances: Instances,

    /// Whether instances may be left without a profile (`none`, a detach on deletion).
    #[serde(default = "yes")]
    pub allow_none: bool,

    /// How many bindings of one namespace this grant covers: the oldest ones. Left out: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_bindings: Option<i64>,

    /// The AWS role to act with, for instances of another account. Left out: the controller's own credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<AssumedRole>,
}

fn yes() -> bool {
    true
}

/// Namespaces by name, by label, or both: either suffices.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new("has(self.names) || has(self.selector)")
        .message("namespaces must have at least one of names and selector; for all namespaces write `selector: {}`")
)]
#[serde(rename_all = "camelCase")]
pub struct Namespaces {
    /// Namespaces by name; no wildcards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 500),
        inner(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))
    )]
    pub names: Option<Vec<String>>,
    /// Namespaces by their labels; `{}` means all. It trusts whoever may label namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<NamespaceSelector>,
}

/// A label selector; everything that is given must hold.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceSelector {
    /// Labels that must be there with these values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minProperties" = 1, "maxProperties" = 20), inner(length(max = 63)))]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Requirements on labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20))]
    pub match_expressions: Option<Vec<LabelRequirement>>,
}

/// One requirement on a label.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(
    validation = Rule::new("self.operator in ['In', 'NotIn'] ? has(self.values) : !has(self.values)")
        .message("values must be given for In and NotIn, and left out for Exists and DoesNotExist")
        .field_path(".values")
)]
#[serde(rename_all = "camelCase")]
pub struct LabelRequirement {
    /// The label.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// How the label's value relates to `values`.
    pub operator: LabelOperator,
    /// The values, for In and NotIn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 50), inner(length(max = 63)))]
    pub values: Option<Vec<String>>,
}

/// How a label's value relates to the values of a requirement.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelOperator {
    /// The label is there with one of the values.
    In,
    /// The label is not there, or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
}

/// Instances by Region, tag and id; all that is given must hold.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new("has(self.regions) || has(self.tags) || has(self.ids)")
        .message("instances must have at least one of regions, tags and ids")
)]
#[serde(rename_all = "camelCase")]
pub struct Instances {
    /// The Regions; left out, only the controller's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 50),
        inner(length(max = 32), regex(pattern = r"^[a-z]{2,}(-[a-z]+)+-[0-9]+$"))
    )]
    pub regions: Option<Vec<String>>,
    /// Tags that the instance must carry with exactly these values. They are read at EC2 before each change; who
    /// may tag instances decides what this is worth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minProperties" = 1, "maxProperties" = 20), inner(length(max = 256)))]
    pub tags: Option<BTreeMap<String, String>>,
    /// The instances themselves. Only a grant that names an instance covers cluster nodes and the controller's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 1000),
        inner(length(max = 19), regex(pattern = r"^i-([0-9a-f]{8}|[0-9a-f]{17})$"))
    )]
    pub ids: Option<Vec<String>>,
}

/// A role to assume, for instances of another account.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AssumedRole {
    /// The ARN of the IAM role that the controller assumes for the bindings this grant covers.
    #[schemars(
        length(min = 1, max = 1024),
        regex(pattern = r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/([!-)+-~]+/)*[A-Za-z0-9_+=,.@-]{1,64}$")
    )]
    pub assume_role_arn: String,
    /// The external id that the role's trust policy demands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 1224), regex(pattern = r"^[A-Za-z0-9_+=,.@:/-]+$"))]
    pub external_id: Option<String>,
    /// The source identity of the session, which CloudTrail shows for all that is done with it. The role's trust policy and
    /// the controller's own must allow sts:SetSourceIdentity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 64), regex(pattern = r"^[A-Za-z0-9_+=,.@-]+$"))]
    pub source_identity: Option<String>,
}

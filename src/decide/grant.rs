//! One grant, read once: which namespaces may put which profiles on which instances.
//!
//! Deny by default: what cannot be read grants nothing, and no empty list or map ever means "all".

use std::collections::BTreeMap;
use std::sync::Arc;

use super::desired::{Declared, ProfileRef};
use super::observed::Tags;
use crate::api::grant::{InstanceRoleGrantSpec, LabelOperator, LabelRequirement, NamespaceSelector};
use crate::ids::{AccountId, InstanceId, Malformed, ProfileArn, ProfileName, Region, RoleArn};

/// A namespace's labels.
pub type Labels = BTreeMap<String, String>;

/// The role to act with; `None` stands for the controller's own credentials.
pub type Credentials = Option<AssumedRole>;

/// A role to assume.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AssumedRole {
    /// The role.
    pub arn: RoleArn,
    /// What its trust policy demands to be told.
    pub external_id: Option<Arc<str>>,
    /// What CloudTrail is to show as the session's source identity.
    pub source_identity: Option<Arc<str>>,
}

/// What a binding asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim<'a> {
    /// To attach this profile, whatever is there.
    Attach(&'a ProfileRef),
    /// To leave the instance without a profile, as declared.
    Nothing,
    /// To take this profile off when the binding is deleted.
    TakeOff(&'a ProfileRef),
}

/// An `InstanceRoleGrant`, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its name.
    pub name: Arc<str>,
    /// How many bindings of one namespace it covers.
    pub max_bindings: Option<usize>,
    /// Whom to act as.
    pub credentials: Credentials,
    /// The holds on repairs that an administrator lets go on.
    approved: Vec<Arc<str>>,
    namespaces: Vec<String>,
    selector: Option<NamespaceSelector>,
    profiles: Vec<ProfileRule>,
    allow_none: bool,
    regions: Option<Vec<Region>>,
    ids: Option<Vec<InstanceId>>,
    tags: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ProfileRule {
    /// This name, on any path.
    Name(ProfileName),
    /// This ARN.
    Arn(ProfileArn),
    /// Every profile whose ARN begins so; it ends with a `/`, so that `team/` is no prefix of `teamster/`.
    Below(String),
}

impl ProfileRule {
    fn parse(text: &str) -> Result<Self, Malformed> {
        match text.strip_suffix('*') {
            // What stands before the `*` must be a path: with a name behind it, it reads as an ARN.
            Some(path) if path.ends_with('/') => {
                ProfileArn::parse(&format!("{path}name"))?;
                Ok(Self::Below(path.to_owned()))
            }
            Some(_) | None if text.starts_with("arn:") => Ok(Self::Arn(ProfileArn::parse(text)?)),
            Some(_) | None => Ok(Self::Name(ProfileName::parse(text)?)),
        }
    }

    /// Where a profile is known by its name alone, since IAM may not be read, only its name can hold.
    fn covers(&self, profile: &ProfileRef) -> bool {
        match (self, profile) {
            (Self::Name(name), profile) => name.as_str() == profile.name(),
            (Self::Arn(granted), ProfileRef::Arn(arn)) => granted == arn,
            (Self::Below(path), ProfileRef::Arn(arn)) => arn.as_str().starts_with(path.as_str()),
            (Self::Arn(_) | Self::Below(_), ProfileRef::Name(_)) => false,
        }
    }

    /// Whether it may turn out to cover what was declared, once IAM has told which profile that is.
    fn could_cover(&self, declared: &Declared) -> bool {
        match (self, declared) {
            (_, Declared::Arn(arn)) => self.covers(&ProfileRef::Arn(arn.clone())),
            (Self::Name(granted), Declared::Name(name)) => granted == name,
            (Self::Arn(granted), Declared::Name(name)) => granted.name() == name.as_str(),
            (Self::Below(_), Declared::Name(_)) | (_, Declared::Role(_)) => true,
            (_, Declared::NoProfile) => false,
        }
    }

    fn account(&self) -> Option<&str> {
        match self {
            Self::Name(_) => None,
            Self::Arn(arn) => Some(arn.account()),
            Self::Below(path) => path.split(':').nth(4),
        }
    }
}

impl Grant {
    /// Reads a grant. The API server has refused malformed ones already, but for those that were stored before its
    /// rules.
    ///
    /// # Errors
    /// Something has not the form it must have; the grant then grants nothing.
    pub fn parse(name: &str, spec: &InstanceRoleGrantSpec) -> Result<Self, Malformed> {
        let instances = &spec.instances;
        not_empty("spec.namespaces.names", spec.namespaces.names.as_deref().map(<[_]>::is_empty))?;
        not_empty("spec.instanceProfiles", Some(spec.instance_profiles.is_empty()))?;
        not_empty("spec.instances.regions", instances.regions.as_deref().map(<[_]>::is_empty))?;
        not_empty("spec.instances.ids", instances.ids.as_deref().map(<[_]>::is_empty))?;
        not_empty("spec.instances.tags", instances.tags.as_ref().map(BTreeMap::is_empty))?;
        let none_of_three =
            instances.regions.is_none() && instances.ids.is_none() && instances.tags.is_none();
        not_empty("spec.instances", Some(none_of_three))?;
        if let Some(NamespaceSelector { match_labels, match_expressions }) = &spec.namespaces.selector {
            not_empty("spec.namespaces.selector.matchLabels", match_labels.as_ref().map(BTreeMap::is_empty))?;
            not_empty(
                "spec.namespaces.selector.matchExpressions",
                match_expressions.as_deref().map(<[_]>::is_empty),
            )?;
            // Without values NotIn would be true of every namespace.
            let unfinished = |r: &LabelRequirement| {
                matches!(r.operator, LabelOperator::In | LabelOperator::NotIn)
                    && r.values.as_deref().is_none_or(<[_]>::is_empty)
            };
            let any = match_expressions.iter().flatten().any(unfinished);
            not_empty("spec.namespaces.selector.matchExpressions.values", Some(any))?;
        }
        if let Some(most) = spec.max_bindings.filter(|most| *most < 1) {
            let value = most.to_string();
            return Err(Malformed { what: "spec.maxBindings", value, expected: "it is at least 1" });
        }
        Ok(Self {
            name: name.into(),
            max_bindings: spec.max_bindings.map(|most| usize::try_from(most).unwrap_or(usize::MAX)),
            credentials: match &spec.aws {
                None => None,
                Some(role) => Some(AssumedRole {
                    arn: RoleArn::parse(&role.assume_role_arn)?,
                    external_id: role.external_id.as_deref().map(Arc::from),
                    source_identity: role.source_identity.as_deref().map(Arc::from),
                }),
            },
            approved: Vec::new(),
            namespaces: spec.namespaces.names.clone().unwrap_or_default(),
            selector: spec.namespaces.selector.clone(),
            profiles: all(&spec.instance_profiles, ProfileRule::parse)?,
            allow_none: spec.allow_none,
            regions: instances.regions.as_deref().map(|some| all(some, Region::parse)).transpose()?,
            ids: instances.ids.as_deref().map(|some| all(some, InstanceId::parse)).transpose()?,
            tags: instances.tags.clone(),
        })
    }

    /// The same grant with what its annotation `approve-changes` says.
    #[must_use]
    pub fn approving(mut self, ids: Option<&str>) -> Self {
        let ids = ids.unwrap_or_default().split([',', ' ']).filter(|id| !id.is_empty());
        self.approved = ids.map(Arc::from).collect();
        self
    }

    /// Whether an administrator lets this hold on repairs go on.
    pub fn approves(&self, id: &str) -> bool {
        self.approved.iter().any(|approved| **approved == *id)
    }

    /// Whether it covers a namespace; `labels` are absent while the namespace was not seen.
    pub fn covers_namespace(&self, namespace: &str, labels: Option<&Labels>) -> bool {
        let selected = |selector| labels.is_some_and(|labels| matches(selector, labels));
        self.namespaces.iter().any(|name| name == namespace) || self.selector.as_ref().is_some_and(selected)
    }

    /// Whether it covers an instance as far as that can be told without looking at it.
    pub fn covers_spot(&self, region: &Region, own_region: &Region, instance: &InstanceId) -> bool {
        let region_ok = match &self.regions {
            Some(regions) => regions.contains(region),
            None => region == own_region,
        };
        region_ok && self.ids.as_ref().is_none_or(|ids| ids.contains(instance))
    }

    /// Whether it may turn out to cover what was declared.
    pub fn could_cover(&self, declared: &Declared) -> bool {
        match declared {
            Declared::NoProfile => self.allow_none,
            Declared::Name(_) | Declared::Arn(_) | Declared::Role(_) => {
                self.profiles.iter().any(|rule| rule.could_cover(declared))
            }
        }
    }

    /// Whether it covers what is asked for, the instance aside.
    pub fn allows(&self, claim: Claim<'_>) -> bool {
        match claim {
            Claim::Attach(profile) => self.covers_profile(profile),
            Claim::Nothing => self.allow_none,
            Claim::TakeOff(profile) => self.allow_none && self.covers_profile(profile),
        }
    }

    /// Whether it covers a profile.
    pub fn covers_profile(&self, profile: &ProfileRef) -> bool {
        self.profiles.iter().any(|rule| rule.covers(profile))
    }

    /// Whether it covers instances by what they carry.
    pub fn asks_tags(&self) -> bool {
        self.tags.is_some()
    }

    /// Whether an instance carries what it asks for.
    pub fn covers_tags(&self, carried: &Tags) -> bool {
        self.tags.as_ref().is_none_or(|tags| tags.iter().all(|(key, value)| carried.has(key, value)))
    }

    /// Whether it names instances by id.
    pub fn names_instances(&self) -> bool {
        self.ids.is_some()
    }

    /// Profiles of another account than the one it acts in: they can never be attached.
    pub fn strays(&self, own_account: &AccountId) -> bool {
        let account = self.credentials.as_ref().map_or(own_account.as_str(), |role| role.arn.account());
        self.profiles.iter().filter_map(ProfileRule::account).any(|other| other != account)
    }
}

fn not_empty(what: &'static str, empty: Option<bool>) -> Result<(), Malformed> {
    match empty {
        Some(true) => {
            Err(Malformed { what, value: String::new(), expected: "it may be left out but not be empty" })
        }
        Some(false) | None => Ok(()),
    }
}

fn all<T>(texts: &[String], parse: impl Fn(&str) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
    texts.iter().map(|text| parse(text)).collect()
}

fn matches(selector: &NamespaceSelector, labels: &Labels) -> bool {
    let NamespaceSelector { match_labels, match_expressions } = selector;
    let equal = |(key, value): (&String, &String)| labels.get(key) == Some(value);
    match_labels.iter().flatten().all(equal)
        && match_expressions.iter().flatten().all(|requirement| satisfies(requirement, labels))
}

fn satisfies(LabelRequirement { key, operator, values }: &LabelRequirement, labels: &Labels) -> bool {
    let value = labels.get(key);
    let listed = value.is_some_and(|value| values.iter().flatten().any(|one| one == value));
    match operator {
        LabelOperator::In => listed,
        LabelOperator::NotIn => !listed,
        LabelOperator::Exists => value.is_some(),
        LabelOperator::DoesNotExist => value.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const ACCOUNT: &str = "arn:aws:iam::123456789012:instance-profile/";

    /// A grant that is well-formed but for what a test puts at `at`.
    fn with(at: &str, value: Value) -> Result<Grant, Malformed> {
        let mut spec = json!({
            "namespaces": {"names": ["team-a"], "selector": {"matchLabels": {"team": "a"}, "matchExpressions": null}},
            "instanceProfiles": ["App"],
            "instances": {"regions": ["eu-west-1"], "tags": {"team": "a"}, "ids": ["i-0123456789abcdef0"]},
            "maxBindings": 3,
            "aws": {"assumeRoleArn": "arn:aws:iam::123456789012:role/r", "externalId": "e"},
        });
        *spec.pointer_mut(at).unwrap() = value;
        Grant::parse("g", &serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn nothing_that_is_empty_means_all() {
        for (at, empty) in [
            ("/namespaces/names", json!([])),
            ("/namespaces/selector/matchLabels", json!({})),
            ("/namespaces/selector/matchExpressions", json!([])),
            ("/instanceProfiles", json!([])),
            ("/instances", json!({})),
            ("/instances/regions", json!([])),
            ("/instances/tags", json!({})),
            ("/instances/ids", json!([])),
        ] {
            let refusal = with(at, empty).unwrap_err().to_string();
            assert!(refusal.contains("empty"), "{at}: {refusal}");
        }
        // An empty one beside others that are not is no slip to be forgiven either.
        for operator in ["In", "NotIn"] {
            for values in [json!(null), json!([])] {
                let one = json!([{"key": "team", "operator": operator, "values": values}]);
                assert!(with("/namespaces/selector/matchExpressions", one).is_err(), "{operator} {values}");
            }
        }
        assert!(
            with("/namespaces", json!({}))
                .is_ok_and(|grant| !grant.covers_namespace("", Some(&Labels::new())))
        );
    }

    #[test]
    fn what_is_malformed_is_refused_whole() {
        for (at, value) in [
            ("/instances/regions", json!(["eu-west-1", "europe"])),
            ("/instances/ids", json!(["i-0123456789abcdef0", "i-*"])),
            ("/aws/assumeRoleArn", json!("arn:aws:iam::123456789012:user/r")),
            ("/maxBindings", json!(0)),
            ("/maxBindings", json!(-1)),
        ] {
            assert!(with(at, value.clone()).is_err(), "{at}: {value}");
        }
        assert_eq!(with("/maxBindings", json!(1)).unwrap().max_bindings, Some(1));
        assert_eq!(with("/maxBindings", Value::Null).unwrap().max_bindings, None);
    }

    #[test]
    fn profiles_are_names_arns_and_paths_below_an_account() {
        for good in ["App", "a+=,.@-_"] {
            assert!(
                ProfileRule::parse(good).is_ok_and(|rule| matches!(rule, ProfileRule::Name(_))),
                "{good}"
            );
        }
        for good in ["App", "team/App", "a/b/c/App"] {
            let rule = ProfileRule::parse(&format!("{ACCOUNT}{good}"));
            assert!(matches!(rule, Ok(ProfileRule::Arn(_))), "{good}");
        }
        for good in ["*", "team/*", "a/b/*"] {
            let rule = ProfileRule::parse(&format!("{ACCOUNT}{good}"));
            assert!(matches!(rule, Ok(ProfileRule::Below(_))), "{good}");
        }
        for bad in [
            "",
            "*",
            "**",
            "/",
            "/*",
            "App*",
            "team/*",
            "team/App",
            "arn:*",
            "arn:aws:iam::*",
            "arn:aws:iam::*:instance-profile/*",
            "arn:aws:iam::123456789012:*",
            "arn:aws:iam::123456789012:instance-profile",
            "arn:aws:iam::123456789012:instance-profile/",
            "arn:aws:iam::123456789012:instance-profile*",
            "arn:aws:iam::123456789012:instance-profile/team*",
            "arn:aws:iam::123456789012:instance-profile/*/App",
            "arn:aws:iam::123456789012:instance-profile/*/*",
            "arn:aws:iam::123456789012:instance-profile/team/**",
            "arn:aws:iam::123456789012:instance-profile//*",
            "arn:aws:iam::123456789012:role/App",
            "arn:aws:iam::123456789012:role/*",
            "arn:aws:iam::12345678901:instance-profile/*",
            "arn:aws:iam:eu-west-1:123456789012:instance-profile/*",
            "ARN:aws:iam::123456789012:instance-profile/*",
            " App",
            "App ",
            "App\n",
            "Äpp",
            "App\0",
        ] {
            assert!(ProfileRule::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn labels_select_as_kubernetes_does() {
        let team = |team: &str| Labels::from([("team".to_owned(), team.to_owned())]);
        let (a, b, none) = (team("a"), team("b"), Labels::new());
        let one =
            |operator: &str, values: Value| json!({"key": "team", "operator": operator, "values": values});
        for (what, selector, covered) in [
            ("all", json!({}), [true, true, true]),
            ("a label", json!({"matchLabels": {"team": "a"}}), [true, false, false]),
            ("two labels", json!({"matchLabels": {"team": "a", "x": "y"}}), [false, false, false]),
            ("In", json!({"matchExpressions": [one("In", json!(["a", "c"]))]}), [true, false, false]),
            (
                "NotIn: a label that is not there is not in",
                json!({"matchExpressions": [one("NotIn", json!(["a"]))]}),
                [false, true, true],
            ),
            ("Exists", json!({"matchExpressions": [one("Exists", Value::Null)]}), [true, true, false]),
            (
                "DoesNotExist",
                json!({"matchExpressions": [one("DoesNotExist", Value::Null)]}),
                [false, false, true],
            ),
            (
                "both must hold",
                json!({"matchLabels": {"team": "a"}, "matchExpressions": [one("NotIn", json!(["a"]))]}),
                [false, false, false],
            ),
        ] {
            let grant = with("/namespaces", json!({"selector": selector})).unwrap();
            let found = [&a, &b, &none].map(|labels| grant.covers_namespace("web", Some(labels)));
            assert_eq!(found, covered, "{what}");
            assert!(!grant.covers_namespace("web", None), "one that was not seen: {what}");
        }
        let named = with("/namespaces/names", json!(["web"])).unwrap();
        assert!(
            named.covers_namespace("web", Some(&b)) && named.covers_namespace("web", None),
            "either suffices"
        );
        assert!(named.covers_namespace("else", Some(&a)) && !named.covers_namespace("web2", Some(&b)));
    }

    #[test]
    fn without_regions_only_the_controllers_own_is_covered() {
        let (here, there) = (Region::parse("eu-west-1").unwrap(), Region::parse("us-east-1").unwrap());
        let id = InstanceId::parse("i-0123456789abcdef0").unwrap();
        let spots = |grant: &Grant| [&here, &there].map(|region| grant.covers_spot(region, &here, &id));
        assert_eq!(spots(&with("/instances/regions", Value::Null).unwrap()), [true, false]);
        assert_eq!(spots(&with("/instances/regions", json!(["us-east-1"])).unwrap()), [false, true]);
        assert_eq!(spots(&with("/instances/ids", json!(["i-00000000"])).unwrap()), [false, false]);
    }

    #[test]
    fn profiles_of_another_account_than_the_one_acted_in_are_told() {
        let own = AccountId::parse("123456789012").unwrap();
        let strays = |rule: &str| with("/instanceProfiles", json!([rule])).unwrap().strays(&own);
        assert!(!strays("App") && !strays(&format!("{ACCOUNT}team/*")) && !strays(&format!("{ACCOUNT}App")));
        let other = "arn:aws:iam::210987654321:instance-profile/";
        assert!(strays(&format!("{other}*")) && strays(&format!("{other}App")));
    }

    proptest! {
        #[test]
        fn hostile_words_neither_panic_nor_grant_what_they_do_not_name(
            rule in "(arn:aws:iam::123456789012:instance-profile/)?[ -~/*]{0,12}|\\PC{0,24}",
            name in "[A-Za-z]{1,4}",
        ) {
            let Ok(parsed) = ProfileRule::parse(&rule) else { return Ok(()) };
            let arn = ProfileRef::Arn(ProfileArn::parse(&format!("{ACCOUNT}team/{name}")).unwrap());
            let covers = rule == name || rule == arn.as_str()
                || [format!("{ACCOUNT}*"), format!("{ACCOUNT}team/*")].contains(&rule);
            prop_assert_eq!(parsed.covers(&arn), covers);
            let bare = ProfileRef::Name(ProfileName::parse(&name).unwrap());
            prop_assert_eq!(parsed.covers(&bare), rule == name);
        }

        #[test]
        fn no_text_in_any_field_panics(text in "\\PC{0,40}", most in any::<i64>()) {
            for at in ["/instanceProfiles", "/instances/regions", "/instances/ids", "/namespaces/names"] {
                let _ = with(at, json!([text]));
            }
            let _ = with("/aws/assumeRoleArn", json!(text));
            let _ = with("/instances/tags", json!({text.as_str(): text}));
            prop_assert_eq!(with("/maxBindings", json!(most)).is_ok(), most >= 1);
        }
    }
}

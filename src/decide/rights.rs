//! What the grants let one binding do: which claims hold on its instance, and what is told where none does.
//!
//! Rights add up, and each comes whole from one grant. Whoever has none learns nothing about the instance: the
//! words follow from spec and grants alone, and an instance that is not there reads like one with other tags.

use std::sync::Arc;

use super::desired::{Declared, ProfileRef, Resolution};
use super::grant::{Claim, Credentials, Grant};
use super::observed::{Instance, Tags};
use super::{Case, Decision, Desired, Evidence, Leaving, Reason, Step, Write, release};

/// The rights of one binding, as far as they can be told before AWS is asked anything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rights {
    /// The grants that cover namespace, Region and instance id, have room, and may cover the profile; by name.
    pub grants: Vec<Arc<Grant>>,
    /// A tag without which no instance is touched, whatever grants say: key and value.
    pub required: Option<(Arc<str>, Arc<str>)>,
    /// Whether the controller itself runs on the instance.
    pub own: bool,
}

/// Why no grant covers a binding; it follows from spec and grants, never from the instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// None covers the namespace.
    Namespace,
    /// None of the namespace's covers the profile, or lets an instance have none.
    Profile,
    /// None of the namespace's covers the instance.
    Instance,
    /// The one of this name covers so many bindings of the namespace, and older ones take them all.
    Room(Arc<str>, usize),
    /// These name different AWS roles to act with.
    Credentials(Vec<Arc<str>>),
}

/// What is known of a binding's rights.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Authority {
    /// This grant covers it.
    Granted {
        /// The grant's name.
        grant: Arc<str>,
        /// Whether tags decided.
        by_tag: bool,
    },
    /// None does.
    Refused {
        /// Whether tags decided.
        by_tag: bool,
    },
    /// IAM or EC2 must be asked first.
    #[default]
    Open,
}

impl Authority {
    /// Whether tags decided, so that they are to be watched.
    pub fn by_tag(&self) -> bool {
        matches!(self, Self::Granted { by_tag: true, .. } | Self::Refused { by_tag: true })
    }

    /// Whether a grant covers the binding.
    pub fn is_granted(&self) -> bool {
        matches!(self, Self::Granted { .. })
    }
}

/// Tags that say that an instance is a node of a cluster: whoever may put a profile on it may become the cluster.
const NODE_TAGS: [&str; 4] = ["kubernetes.io/cluster/", "karpenter.sh/", "eks:", "aws:eks:"];

/// The tag that says that an instance is a node of a cluster, if it carries one.
pub fn node_tag(tags: &Tags) -> Option<&str> {
    tags.keys().find(|key| NODE_TAGS.iter().any(|prefix| key.starts_with(prefix)))
}

impl Rights {
    /// Whom to act as, and the rights that are left to that one. All grants that may cover what is declared must agree; those
    /// that are there for the sake of what status notes have no say where there are such.
    ///
    /// # Errors
    /// The names of grants that do not agree.
    pub fn agreed(mut self, declared: &Declared) -> Result<(Credentials, Self), Vec<Arc<str>>> {
        let meant = |grant: &&Arc<Grant>| grant.could_cover(declared);
        let noted = !self.grants.iter().any(|grant| meant(&grant));
        let mut all = self.grants.iter().filter(|grant| noted || meant(grant));
        let Some(first) = all.next() else { return Ok((None, self)) };
        if let Some(other) = all.find(|other| other.credentials != first.credentials) {
            return Err(vec![Arc::clone(&first.name), Arc::clone(&other.name)]);
        }
        let credentials = first.credentials.clone();
        self.grants.retain(|grant| grant.credentials == credentials);
        Ok((credentials, self))
    }

    /// Whether a claim holds on an instance; `seen` is the instance as it was last looked at.
    pub fn authority(&self, claim: Claim<'_>, seen: Option<&Instance>) -> Authority {
        self.judge(seen, |grant| grant.allows(claim))
    }

    /// Whether anything at all may be done to the instance.
    pub(super) fn reach(&self, seen: Option<&Instance>) -> Authority {
        self.judge(seen, |_| true)
    }

    fn judge(&self, seen: Option<&Instance>, allows: impl Fn(&Grant) -> bool) -> Authority {
        let allowing = || self.grants.iter().filter(|grant| allows(grant));
        let granted =
            |grant: &Arc<Grant>, by_tag| Authority::Granted { grant: Arc::clone(&grant.name), by_tag };
        if allowing().next().is_none() {
            return Authority::Refused { by_tag: false };
        }
        if let (None, Some(grant)) = (&self.required, allowing().find(|grant| !grant.asks_tags())) {
            return granted(grant, false);
        }
        match seen {
            None => Authority::Open,
            Some(Instance::Absent | Instance::Impossible) => Authority::Refused { by_tag: true },
            Some(Instance::Present { tags, .. }) => allowing()
                .find(|grant| self.consents(tags) && grant.covers_tags(tags))
                .map_or(Authority::Refused { by_tag: true }, |grant| granted(grant, true)),
        }
    }

    fn consents(&self, tags: &Tags) -> bool {
        self.required.as_ref().is_none_or(|(key, value)| tags.has(key, value))
    }

    /// What keeps the instance from being touched unless a grant names it by id, in words.
    pub(super) fn protection(&self, claim: Claim<'_>, instance: &Instance) -> Option<String> {
        let Instance::Present { tags, .. } = instance else { return None };
        let what = match node_tag(tags) {
            Some(key) => format!("is a node of a cluster (tag {key})"),
            None if self.own => "is the one that the controller runs on".to_owned(),
            None => return None,
        };
        let named = self.grants.iter().any(|grant| {
            grant.names_instances() && grant.allows(claim) && self.consents(tags) && grant.covers_tags(tags)
        });
        (!named).then_some(what)
    }

    /// Whether the instance, as it was last looked at, is protected from what was declared.
    pub fn is_kept_from(
        &self,
        declared: &Declared,
        resolution: &Resolution,
        seen: Option<&Instance>,
    ) -> bool {
        let Some(instance) = seen else { return false };
        let attached = match (declared, resolution) {
            (Declared::NoProfile, _) | (_, Resolution::NoProfile) => None,
            (_, Resolution::Found(target)) => Some(target.profile.clone()),
            (Declared::Arn(arn), _) => Some(ProfileRef::Arn(arn.clone())),
            (Declared::Name(_) | Declared::Role(_), _) => return false,
        };
        let claim = attached.as_ref().map_or(Claim::Nothing, Claim::Attach);
        self.protection(claim, instance).is_some()
    }

    /// Whether a profile may be named to whoever wrote the binding.
    pub(super) fn may_know(&self, profile: &ProfileRef) -> bool {
        self.grants.iter().any(|grant| grant.covers_profile(profile))
    }

    /// Whether the instance may be looked at on behalf of the binding: not before it is known that a grant covers the
    /// profile that is meant.
    pub fn may_look(&self, declared: &Declared, resolution: &Resolution) -> bool {
        match self.covers(declared, resolution, None) {
            Authority::Granted { .. } => true,
            Authority::Refused { .. } => false,
            Authority::Open => {
                is_arn(declared) || !matches!(resolution, Resolution::NotAsked | Resolution::Unavailable(_))
            }
        }
    }

    /// Whether what was declared is covered.
    pub fn covers(&self, declared: &Declared, resolution: &Resolution, seen: Option<&Instance>) -> Authority {
        let attach = |profile: &ProfileRef| self.authority(Claim::Attach(profile), seen);
        match (declared, resolution) {
            (Declared::NoProfile, _) | (_, Resolution::NoProfile) => self.authority(Claim::Nothing, seen),
            (_, Resolution::Found(target)) => attach(&target.profile),
            // What is meant is an ARN whatever IAM says of it.
            (Declared::Arn(arn), _) => attach(&ProfileRef::Arn(arn.clone())),
            (Declared::Name(_) | Declared::Role(_), resolution) => match resolution {
                Resolution::Missing { really: Some(arn), .. } => attach(&ProfileRef::Arn(arn.clone())),
                Resolution::Ambiguous(arns) => self.judge(seen, |grant| {
                    arns.iter().any(|arn| grant.covers_profile(&ProfileRef::Arn(arn.clone())))
                }),
                Resolution::Missing { really: None, .. } | Resolution::Denied(_) => self.reach(seen),
                Resolution::NotAsked | Resolution::Unavailable(_) => Authority::Open,
                Resolution::Found(_) | Resolution::NoProfile => Authority::Open,
            },
        }
    }
}

impl<'a> Claim<'a> {
    /// What a write asks for. The detach inside a swap belongs to the right to attach what comes next.
    pub fn of(write: &'a Write, leaving: bool) -> Self {
        match write {
            Write::Associate { profile } | Write::Replace { profile, .. } => Self::Attach(profile),
            Write::Disassociate { then: Some(profile), .. } => Self::Attach(profile),
            Write::Disassociate { from, then: None, .. } if leaving => Self::TakeOff(from),
            Write::Disassociate { then: None, .. } => Self::Nothing,
        }
    }
}

impl Lack {
    fn words(&self) -> String {
        match self {
            Self::Namespace => {
                "no InstanceRoleGrant covers this namespace: ask an administrator for a grant".into()
            }
            Self::Profile => "no InstanceRoleGrant lets this namespace have what spec.instanceProfile declares: ask an administrator, or declare what is granted".into(),
            Self::Instance => "no InstanceRoleGrant lets this namespace change this instance: ask an administrator, or check spec.instanceId and spec.region".into(),
            Self::Room(grant, most) => format!(
                "grant {grant} covers {most} bindings of this namespace, and older ones take them all: delete one, or ask an administrator for more"
            ),
            Self::Credentials(grants) => format!(
                "the grants {} cover this binding with different AWS roles, and which is meant is not guessed: ask an administrator to have them agree",
                grants.join(" and ")
            ),
        }
    }

    fn reason(&self) -> Reason {
        match self {
            Self::Credentials(_) => Reason::Conflict,
            Self::Namespace | Self::Profile | Self::Instance | Self::Room(..) => Reason::NotAuthorized,
        }
    }
}

fn refused(lack: &Lack, by_tag: bool) -> Decision {
    let authority = Authority::Refused { by_tag };
    Decision { authority, ..Decision::refuse(lack.reason(), lack.words()) }
}

/// The decision for a binding that no grant could cover: AWS is asked nothing on its behalf.
pub fn without_rights(desired: &Desired, leaving: Option<&Leaving>, lack: &Lack) -> Decision {
    let Some(leaving) = leaving else { return refused(lack, false) };
    match release::without_asking(desired, leaving) {
        Some(farewell) => farewell,
        // Contradicting grants are no missing ones: that is mended, or released by force.
        None if matches!(lack, Lack::Credentials(_)) => refused(lack, false),
        None => release::left_alone(),
    }
}

/// The answer where no grant covers what is declared, or where that cannot be told yet.
pub(super) fn uncovered(case: &Case<'_>) -> Result<Authority, Decision> {
    let Case { rights, desired, resolution, observed, .. } = case;
    let authority = rights.covers(&desired.declared, resolution, observed.seen.as_ref());
    match authority {
        Authority::Granted { .. } => Ok(authority),
        Authority::Refused { by_tag: true } => Err(refused(&Lack::Instance, true)),
        Authority::Refused { by_tag: false } => Err(refused(&Lack::Profile, false)),
        // What the profile is decides whether EC2 is asked anything at all.
        Authority::Open if **resolution == Resolution::NotAsked && desired.needs_iam() => {
            Err(Decision::look(Evidence { profile: true, ..Evidence::default() }))
        }
        Authority::Open => match resolution {
            Resolution::Unavailable(words) if desired.needs_iam() => {
                Err(Decision::wait(Reason::AWSUnavailable, words.clone()))
            }
            _ => Err(Decision::look(Evidence {
                instance: true,
                associations: observed.view.is_none(),
                profile: matches!(resolution, Resolution::NotAsked),
            })),
        },
    }
}

fn is_arn(declared: &Declared) -> bool {
    matches!(declared, Declared::Arn(_))
}

/// The last word on a write, whatever led to it: its claim must hold on the instance as it is now.
pub(super) fn gate(case: &Case<'_>, decision: Decision) -> Decision {
    let Step::Write(write) = &decision.step else { return decision };
    let claim = Claim::of(write, case.leaving.is_some());
    let Some(instance) = &case.observed.instance else {
        return Decision::look(Evidence { instance: true, ..Evidence::default() });
    };
    match case.rights.authority(claim, Some(instance)) {
        Authority::Granted { .. } => match case.rights.protection(claim, instance) {
            None => decision,
            Some(_) if case.leaving.is_some() => release::left_alone(),
            Some(what) => protected(case, &what),
        },
        Authority::Refused { .. } | Authority::Open if case.leaving.is_some() => release::left_alone(),
        Authority::Refused { by_tag } if by_tag => refused(&Lack::Instance, true),
        Authority::Refused { .. } | Authority::Open => refused(&Lack::Profile, false),
    }
}

/// The answer for an instance that is touched only where a grant names it.
pub(super) fn protected(case: &Case<'_>, what: &str) -> Decision {
    let id = &case.desired.instance;
    Decision::refuse(
        Reason::InstanceProtected,
        format!("{id} {what}, which only a grant that names it by id may change: ask an administrator, or delete this binding"),
    )
    .differs()
}

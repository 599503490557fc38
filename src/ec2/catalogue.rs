//! IAM's instance profiles: one shared listing, at most once a minute, and single look-ups for what it lacks.
//!
//! Names and roles are resolved here, to an ARN and a unique id, before anything else is asked about them.
//! The reads are optional: where they are denied, a profile is known by what the user wrote alone.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::again::again;
use super::budget::{Bucket, Limit};
use super::client::Caller;
use super::error::{Error, Meaning};
use super::whole::Whole;
use crate::decide::{Declared, ProfileRef, Resolution, Target};
use crate::ids::{AccountId, ProfileArn, ProfileId, RoleName};

/// How often the listing is made at most.
pub const LISTING: Duration = Duration::from_secs(60);
/// What is missing is forgotten when nobody has asked for it for so long: whoever still declares it asks more often.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(2);
/// Our own limit of single look-ups: IAM's limits are low and not published.
const SINGLES: Limit = Limit { burst: 20.0, per_second: 5.0 };
/// Profiles in a page of the listing, the most IAM gives.
const PAGE: i32 = 1000;

/// An instance profile as IAM has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Profile {
    arn: ProfileArn,
    id: ProfileId,
    role: Option<RoleName>,
    as_of: Timestamp,
}

/// What IAM said of one declaration that it could not resolve.
#[derive(Debug, Clone)]
enum Answer {
    /// `asked`: when it was last asked for.
    Missing {
        told: String,
        since: Timestamp,
        asked: Timestamp,
    },
    Denied,
}

/// Profiles and roles of which IAM says something else than before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Differing {
    profiles: HashSet<String>,
    roles: HashSet<String>,
}

impl Differing {
    fn note(&mut self, profile: &Profile) {
        self.profiles.insert(profile.arn.name().to_lowercase());
        self.roles.extend(profile.role.as_ref().map(ToString::to_string));
    }

    fn add(&mut self, other: Self) {
        self.profiles.extend(other.profiles);
        self.roles.extend(other.roles);
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.profiles.is_empty()
    }

    /// Whether a declaration by this name, ARN or role is concerned.
    pub fn concerns(&self, name: Option<&str>, arn: Option<&str>, role: Option<&str>) -> bool {
        let last = arn.and_then(|arn| arn.rsplit('/').next());
        name.into_iter().chain(last).any(|name| self.profiles.contains(&name.to_lowercase()))
            || role.is_some_and(|role| self.roles.contains(role))
    }
}

#[derive(Debug, Default)]
struct Known {
    /// By name in lower case: IAM's names are unique ignoring case.
    profiles: HashMap<String, Profile>,
    answers: HashMap<Declared, Answer>,
    /// When the listing was last made, or tried.
    listed: Option<Instant>,
    /// When the last listing that succeeded began.
    as_of: Option<Timestamp>,
    denied: bool,
    version: u64,
    news: Differing,
}

/// The instance profiles of one account.
#[derive(Debug)]
pub struct Catalogue {
    sdk: aws_sdk_iam::Client,
    account: AccountId,
    caller: Caller,
    known: Mutex<Known>,
    /// Held while listing, so that those who come at the same time share one.
    listing: tokio::sync::Mutex<()>,
    singles: tokio::sync::Mutex<Bucket>,
}

impl Catalogue {
    /// An empty catalogue of `account`, for IAM by this configuration of the SDK.
    pub fn new(config: aws_sdk_iam::config::Builder, account: AccountId, caller: Caller) -> Self {
        let sdk = aws_sdk_iam::Client::from_conf(config.interceptor(Whole).build());
        let singles = tokio::sync::Mutex::new(Bucket::new(SINGLES, Instant::now()));
        Self {
            sdk,
            account,
            caller,
            known: Mutex::default(),
            listing: tokio::sync::Mutex::default(),
            singles,
        }
    }

    /// What is known of a declared profile, without asking IAM.
    pub fn resolve(&self, declared: &Declared) -> Resolution {
        if *declared == Declared::NoProfile {
            return Resolution::NoProfile;
        }
        if let Declared::Arn(arn) = declared
            && arn.account() != self.account.as_str()
        {
            // PassRole cannot cross accounts (aws-semantics 3.1).
            let told = format!(
                "{arn} belongs to another account than {}, whose instances can carry only its own profiles: name one of them",
                self.account
            );
            return Resolution::Missing { told, really: None, since: Timestamp::UNIX_EPOCH };
        }
        let known = self.known();
        match known.find(declared) {
            Found::One(profile) => Resolution::Found(profile.target()),
            Found::Several(arns) => Resolution::Ambiguous(arns),
            Found::Other(arn) => Resolution::Missing {
                told: missing(declared, &self.account),
                really: Some(arn),
                since: Timestamp::UNIX_EPOCH,
            },
            Found::No => match known.answers.get(declared) {
                Some(Answer::Missing { told, since, .. }) => {
                    Resolution::Missing { told: told.clone(), really: None, since: *since }
                }
                Some(Answer::Denied) => unread(declared),
                None => Resolution::NotAsked,
            },
        }
    }

    /// Asks IAM about a declared profile: by the shared listing where that is due, else by a single look-up. Where many
    /// wait for one, the next listing answers them all: who declares a thousand profiles keeps nobody waiting for longer.
    ///
    /// # Errors
    /// IAM does not answer, and nothing is known of the profile. A denial is an answer.
    pub async fn look(&self, declared: &Declared) -> Result<(), Error> {
        let asked = Timestamp::now();
        if *declared == Declared::NoProfile {
            return Ok(());
        }
        loop {
            self.refresh(LISTING).await;
            if self.known().is_answered(declared, asked, &self.account) {
                return Ok(());
            }
            let Err(wait) = self.singles.lock().await.take(Instant::now()) else { break };
            tokio::time::sleep(wait).await;
        }
        let began = Timestamp::now();
        let found = match declared {
            Declared::NoProfile => return Ok(()),
            Declared::Name(name) => self.get(name.as_str()).await.map(|p| p.into_iter().collect()),
            Declared::Arn(arn) => self.get(arn.name()).await.map(|p| p.into_iter().collect()),
            Declared::Role(role) => self.of_role(role).await,
        };
        let mut known = self.known();
        known.version += 1;
        match found {
            Ok(profiles) => {
                known.forget(declared, began);
                profiles.into_iter().for_each(|profile| known.keep(profile));
                known.conclude(declared, began, &self.account);
                Ok(())
            }
            Err(error) if error.meaning() == Meaning::Denied => {
                known.answers.insert(declared.clone(), Answer::Denied);
                Ok(())
            }
            // What was known stays known: an outage of IAM takes nothing away.
            Err(error) => Err(error),
        }
    }

    /// Asks IAM about many declared profiles at once: by one listing, which tells what is missing as well, and by single look-ups
    /// only where it cannot be made. Where IAM does not answer one, the rest is not asked for.
    ///
    /// # Errors
    /// IAM does not answer. A denial is an answer.
    pub async fn look_at_all(&self, declared: &[&Declared]) -> Result<(), Error> {
        let asked = Timestamp::now();
        self.refresh(LISTING).await;
        let open: Vec<&Declared> = {
            let mut known = self.known();
            let is_open = |declared: &&Declared| !known.is_answered(declared, asked, &self.account);
            declared.iter().copied().filter(is_open).collect()
        };
        let looks = open.into_iter().map(|declared| again(|| self.look(declared)));
        futures::future::try_join_all(looks).await.map(drop)
    }

    /// Makes the shared listing if the last one is older than `age`; [`Self::news`] tells what differs from before.
    pub async fn refresh(&self, age: Duration) {
        let due = |known: &Known| known.listed.is_none_or(|at| at.elapsed() >= age);
        if !due(&self.known()) {
            return;
        }
        let _one_at_a_time = self.listing.lock().await;
        if !due(&self.known()) {
            return;
        }
        let result = self.list().await;
        let mut known = self.known();
        known.listed = Some(Instant::now());
        known.version += 1;
        match result {
            Ok((profiles, began)) => {
                (known.denied, known.as_of) = (false, Some(began));
                let differing = known.replace(profiles, began);
                known.news.add(differing);
            }
            Err(error) => {
                if error.meaning() == Meaning::Denied && !known.denied {
                    known.denied = true;
                    tracing::warn!(%error, "instance profiles cannot be listed: each is looked up by itself");
                } else {
                    tracing::debug!(%error, "instance profiles cannot be listed now");
                }
            }
        }
    }

    async fn list(&self) -> Result<(Vec<Profile>, Timestamp), Error> {
        const OP: &str = "ListInstanceProfiles";
        let as_of = Timestamp::now();
        let (mut all, mut marker) = (Vec::new(), None);
        loop {
            let call = self.sdk.list_instance_profiles().max_items(PAGE).set_marker(marker);
            let page = self.caller.call(OP, call.send()).await?;
            all.extend(page.instance_profiles().iter().filter_map(|p| read(p, as_of)));
            marker = page.marker().map(str::to_owned);
            if !page.is_truncated() || marker.is_none() {
                return Ok((all, as_of));
            }
        }
    }

    async fn get(&self, name: &str) -> Result<Option<Profile>, Error> {
        let as_of = Timestamp::now();
        let call = self.sdk.get_instance_profile().instance_profile_name(name);
        match self.caller.call("GetInstanceProfile", call.send()).await {
            Ok(reply) => Ok(reply.instance_profile().and_then(|p| read(p, as_of))),
            Err(error) if error.meaning() == Meaning::NoSuchEntity => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn of_role(&self, role: &RoleName) -> Result<Vec<Profile>, Error> {
        const OP: &str = "ListInstanceProfilesForRole";
        let as_of = Timestamp::now();
        let (mut all, mut marker) = (Vec::new(), None);
        loop {
            let call = self.sdk.list_instance_profiles_for_role().role_name(role.as_str()).set_marker(marker);
            match self.caller.call(OP, call.send()).await {
                Ok(page) => {
                    all.extend(page.instance_profiles().iter().filter_map(|p| read(p, as_of)));
                    marker = page.marker().map(str::to_owned);
                    if !page.is_truncated() || marker.is_none() {
                        return Ok(all);
                    }
                }
                Err(error) if error.meaning() == Meaning::NoSuchEntity => return Ok(Vec::new()),
                Err(error) => return Err(error),
            }
        }
    }

    /// What listings have told since this was last asked that is not as before, whoever had them made.
    pub fn news(&self) -> Differing {
        std::mem::take(&mut self.known().news)
    }

    /// Another number whenever something was learned.
    pub fn version(&self) -> u64 {
        self.known().version
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Found<'a> {
    One(&'a Profile),
    Several(Vec<ProfileArn>),
    /// This one is under that name in another letter case, or on another path.
    Other(ProfileArn),
    No,
}

impl Known {
    fn find(&self, declared: &Declared) -> Found<'_> {
        match declared {
            Declared::NoProfile => Found::No,
            Declared::Name(name) => match self.profiles.get(&name.as_str().to_lowercase()) {
                Some(profile) if profile.arn.name() == name.as_str() => Found::One(profile),
                Some(profile) => Found::Other(profile.arn.clone()),
                None => Found::No,
            },
            Declared::Arn(arn) => match self.profiles.get(&arn.name().to_lowercase()) {
                Some(profile) if profile.arn == *arn => Found::One(profile),
                Some(profile) => Found::Other(profile.arn.clone()),
                None => Found::No,
            },
            Declared::Role(role) => {
                let mut holders: Vec<&Profile> =
                    self.profiles.values().filter(|p| p.role.as_ref() == Some(role)).collect();
                holders.sort_by(|a, b| a.arn.cmp(&b.arn));
                match holders.as_slice() {
                    [] => Found::No,
                    [one] => Found::One(one),
                    several => Found::Several(several.iter().map(|p| p.arn.clone()).collect()),
                }
            }
        }
    }

    /// Whether IAM has told of the declaration since it was `asked` for, by a look-up or by a listing, which tells what is
    /// missing as well.
    fn is_answered(&mut self, declared: &Declared, asked: Timestamp, account: &AccountId) -> bool {
        if matches!(self.find(declared), Found::One(profile) if profile.as_of >= asked) {
            return true;
        }
        let listed = self.as_of.filter(|as_of| *as_of >= asked);
        if let Some(as_of) = listed {
            self.conclude(declared, as_of, account);
            self.version += 1;
        }
        listed.is_some()
    }

    /// Draws the conclusion from a look that began at `began` and showed all there is.
    fn conclude(&mut self, declared: &Declared, began: Timestamp, account: &AccountId) {
        if !matches!(self.find(declared), Found::No) {
            self.answers.remove(declared);
            return;
        }
        let since = match self.answers.get(declared) {
            Some(Answer::Missing { since, .. }) => *since,
            Some(Answer::Denied) | None => began,
        };
        let told = missing(declared, account);
        self.answers.insert(declared.clone(), Answer::Missing { told, since, asked: began });
    }

    fn keep(&mut self, profile: Profile) {
        self.profiles.insert(profile.arn.name().to_lowercase(), profile);
    }

    /// Takes in a listing that began at `began`; what was looked at since stays.
    fn replace(&mut self, listed: Vec<Profile>, began: Timestamp) -> Differing {
        let mut before = std::mem::take(&mut self.profiles);
        let mut differing = Differing::default();
        for profile in listed {
            let name = profile.arn.name().to_lowercase();
            match before.remove(&name) {
                Some(newer) if newer.as_of > began => drop(self.profiles.insert(name, newer)),
                Some(old) => {
                    if (&old.arn, &old.id, &old.role) != (&profile.arn, &profile.id, &profile.role) {
                        differing.note(&old);
                        differing.note(&profile);
                    }
                    self.profiles.insert(name, profile);
                }
                None => {
                    differing.note(&profile);
                    self.profiles.insert(name, profile);
                }
            }
        }
        for (name, gone) in before {
            if gone.as_of > began {
                self.profiles.insert(name, gone);
            } else {
                differing.note(&gone);
            }
        }
        let answers = std::mem::take(&mut self.answers);
        let unanswered = |declared: &Declared| matches!(self.find(declared), Found::No);
        let wanted = |answer: &Answer| match answer {
            Answer::Missing { asked, .. } => began.duration_since(*asked) < FORGOTTEN,
            Answer::Denied => false,
        };
        self.answers = answers.into_iter().filter(|(d, a)| wanted(a) && unanswered(d)).collect();
        differing
    }

    /// Forgets what was known of a declaration before `began`.
    fn forget(&mut self, declared: &Declared, began: Timestamp) {
        self.profiles.retain(|name, profile| {
            let meant = match declared {
                Declared::NoProfile => false,
                Declared::Name(declared) => *name == declared.as_str().to_lowercase(),
                Declared::Arn(arn) => *name == arn.name().to_lowercase(),
                Declared::Role(role) => profile.role.as_ref() == Some(role),
            };
            !meant || profile.as_of > began
        });
    }
}

impl Profile {
    fn target(&self) -> Target {
        Target {
            profile: ProfileRef::Arn(self.arn.clone()),
            id: Some(self.id.clone()),
            has_role: Some(self.role.is_some()),
            as_of: self.as_of,
        }
    }
}

fn read(profile: &aws_sdk_iam::types::InstanceProfile, as_of: Timestamp) -> Option<Profile> {
    Some(Profile {
        arn: ProfileArn::parse(profile.arn()).ok()?,
        id: ProfileId::parse(profile.instance_profile_id()).ok()?,
        role: profile.roles().first().and_then(|role| RoleName::parse(role.role_name()).ok()),
        as_of,
    })
}

fn missing(declared: &Declared, account: &AccountId) -> String {
    match declared {
        Declared::Role(role) => format!(
            "role {role} of account {account} does not exist or is in no instance profile: create one and add the role to it"
        ),
        Declared::Name(_) | Declared::Arn(_) | Declared::NoProfile => {
            format!(
                "IAM has no {declared} in account {account}: create it, or correct spec.instanceProfile (a role's name goes into roleName)"
            )
        }
    }
}

/// What can be done where IAM may not be read: a name goes to EC2 as it is, a role cannot be looked up.
fn unread(declared: &Declared) -> Resolution {
    let target = |profile| {
        Resolution::Found(Target { profile, id: None, has_role: None, as_of: Timestamp::UNIX_EPOCH })
    };
    match declared {
        Declared::NoProfile => Resolution::NoProfile,
        Declared::Name(name) => target(ProfileRef::Name(name.clone())),
        Declared::Arn(arn) => target(ProfileRef::Arn(arn.clone())),
        Declared::Role(role) => Resolution::Denied(format!(
            "the instance profile of role {role} cannot be looked up: allow iam:ListInstanceProfilesForRole to the controller (deploy/iam), or name the profile"
        )),
    }
}

//! The EC2 calls, one function each: arguments in our types, replies in our types, errors with a meaning.
//!
//! The SDK does not retry: each attempt is ours to count, to pace and to decide anew. Every call has a time-out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_ec2::operation::RequestId;
use aws_sdk_ec2::types::{Filter, IamInstanceProfileAssociation, IamInstanceProfileSpecification};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use jiff::Timestamp;
use tokio::sync::Mutex;
use tracing::Instrument;
use tracing::field::Empty;

use super::budget::{Bucket, Limit};
use super::error::{Error, Meaning};
use super::gate::Gate;
use super::whole::Whole;
use crate::decide::{Association, AssociationState, Instance, ProfileRef, Tags};
use crate::ids::{AssociationId, InstanceId, ProfileArn, ProfileId, RoleArn};
use crate::telemetry::{Metrics, labels};

/// EC2 takes at most so many values in a filter (`aws-semantics` 1.2, second-hand).
pub const FILTER_VALUES: usize = 200;
/// Rows in a page of associations, the most EC2 promises.
const PAGE: i32 = 1000;

/// An association row and the instance it belongs to; `None` where it cannot be understood.
pub type Row = (InstanceId, Option<Association>);

/// EC2's reply to a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The association as EC2 now sees it; absent where the reply cannot be understood.
    pub association: Option<Association>,
    /// EC2's id of the request.
    pub request_id: Option<String>,
}

/// EC2 in one account and Region.
#[derive(Debug, Clone)]
pub struct Ec2 {
    sdk: aws_sdk_ec2::Client,
    caller: Caller,
    reads: Arc<Reads>,
    gate: Gate,
}

/// The budgets of the read operations: EC2 keeps them per account and Region, whoever calls.
#[derive(Debug)]
pub struct Reads {
    associations: Mutex<Bucket>,
    instances: Mutex<Bucket>,
}

impl Reads {
    /// Full budgets of this size each.
    pub fn new(limit: Limit) -> Self {
        let bucket = || Mutex::new(Bucket::new(limit, Instant::now()));
        Self { associations: bucket(), instances: bucket() }
    }
}

/// Makes calls: counts and measures them, and gives their errors a meaning.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Where calls are counted.
    pub metrics: Arc<Metrics>,
    /// The role that is assumed for them; none: the controller's own credentials.
    pub role: Option<RoleArn>,
}

/// A read operation of EC2; each has a budget of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// DescribeIamInstanceProfileAssociations.
    Associations,
    /// DescribeInstances.
    Instances,
}

impl Read {
    fn name(self) -> &'static str {
        match self {
            Self::Associations => "DescribeIamInstanceProfileAssociations",
            Self::Instances => "DescribeInstances",
        }
    }
}

/// The right to make one call of a read operation. Who holds it may begin at once, so a look is as old as its call.
#[derive(Debug)]
pub struct ReadToken(());

#[cfg(test)]
impl ReadToken {
    /// A token for a call that is none.
    pub(super) fn free() -> Self {
        Self(())
    }
}

impl Ec2 {
    /// EC2 by this configuration of the SDK. Writes go through the gate, replies count when they are whole.
    pub fn new(config: aws_sdk_ec2::config::Builder, caller: Caller, reads: Arc<Reads>, gate: Gate) -> Self {
        let sdk = aws_sdk_ec2::Client::from_conf(config.interceptor(Whole).build());
        Self { sdk, caller, reads, gate }
    }

    /// Waits for the right to make one call.
    pub async fn read_token(&self, read: Read) -> ReadToken {
        loop {
            let wait = match self.bucket(read).lock().await.take(Instant::now()) {
                Ok(()) => return ReadToken(()),
                Err(wait) => wait,
            };
            tokio::time::sleep(wait.min(Duration::from_secs(5))).await;
        }
    }

    /// Whether a throttle holds down the rate of reads of this kind.
    #[cfg(test)]
    pub(super) async fn is_throttled(&self, read: Read) -> bool {
        self.bucket(read).lock().await.is_throttled()
    }

    fn bucket(&self, read: Read) -> &Mutex<Bucket> {
        match read {
            Read::Associations => &self.reads.associations,
            Read::Instances => &self.reads.instances,
        }
    }

    /// One page of the Region's associations, and the token of the next.
    pub async fn associations_page(
        &self,
        ReadToken(()): ReadToken,
        page: Option<String>,
    ) -> Result<(Vec<Row>, Option<String>), Error> {
        let now = Timestamp::now();
        let call =
            self.sdk.describe_iam_instance_profile_associations().max_results(PAGE).set_next_token(page);
        let page = self.read(Read::Associations, call.send()).await?;
        let rows =
            page.iam_instance_profile_associations().iter().filter_map(|row| read_row(row, now)).collect();
        Ok((rows, page.next_token().filter(|t| !t.is_empty()).map(str::to_owned)))
    }

    /// The associations of these instances, at most [`FILTER_VALUES`]; all pages. A row that does not say whose it is could be
    /// anybody's, so that nobody is known to have none.
    pub async fn associations_of(&self, mut token: ReadToken, ids: &[InstanceId]) -> Result<Vec<Row>, Error> {
        let (mut rows, mut next) = (Vec::new(), None);
        loop {
            let ReadToken(()) = token;
            let now = Timestamp::now();
            let call = self.sdk.describe_iam_instance_profile_associations();
            let call = call.filters(by_id(ids)).max_results(PAGE).set_next_token(next);
            let page = self.read(Read::Associations, call.send()).await?;
            for row in page.iam_instance_profile_associations() {
                rows.push(read_row(row, now).ok_or_else(|| garbled(Read::Associations))?);
            }
            next = page.next_token().filter(|t| !t.is_empty()).map(str::to_owned);
            if next.is_none() {
                return Ok(rows);
            }
            token = self.read_token(Read::Associations).await;
        }
    }

    /// The states of these instances, at most [`FILTER_VALUES`]. By filter, never by `InstanceIds`: there one
    /// unknown id fails the whole call. An instance that is not in the answer is not there, so the answer must be whole.
    pub async fn instances(
        &self,
        mut token: ReadToken,
        ids: &[InstanceId],
    ) -> Result<HashMap<InstanceId, Instance>, Error> {
        let (mut found, mut next) = (HashMap::new(), None);
        loop {
            let ReadToken(()) = token;
            let call =
                self.sdk.describe_instances().filters(by_id(ids)).max_results(PAGE).set_next_token(next);
            let page = self.read(Read::Instances, call.send()).await?;
            for instance in page.reservations().iter().flat_map(|r| r.instances()) {
                let id = instance.instance_id().and_then(|id| InstanceId::parse(id).ok());
                let id = id.ok_or_else(|| garbled(Read::Instances))?;
                let state = instance.state().and_then(|s| s.name()).map_or("", |name| name.as_str()).into();
                let managed = instance.operator().and_then(|o| o.managed()).unwrap_or(false);
                let tags = instance.tags().iter();
                let tags = tags.map(|tag| Some((tag.key()?, tag.value().unwrap_or_default())));
                // One that cannot be read may be the one that protects.
                let tags = tags.collect::<Option<Tags>>().ok_or_else(|| garbled(Read::Instances))?;
                found.insert(id, Instance::Present { state, managed, tags });
            }
            next = page.next_token().filter(|t| !t.is_empty()).map(str::to_owned);
            if next.is_none() {
                return Ok(found);
            }
            token = self.read_token(Read::Instances).await;
        }
    }

    /// Attaches a profile to an instance that has none; EC2 refuses where there is one. As with the other writes nothing is
    /// sent after `until`.
    pub async fn associate(
        &self,
        instance: &InstanceId,
        profile: &ProfileRef,
        until: Timestamp,
    ) -> Result<Reply, Error> {
        let call = self
            .sdk
            .associate_iam_instance_profile()
            .instance_id(instance.as_str())
            .iam_instance_profile(specified(profile))
            .customize()
            .config_override(self.gate.limits())
            .interceptor(self.gate.until(until));
        let reply = self.caller.call("AssociateIamInstanceProfile", call.send()).await?;
        Ok(read_reply(reply.iam_instance_profile_association(), reply.request_id()))
    }

    /// Exchanges the profile of a running instance; EC2 refuses where the association is not the active one.
    pub async fn replace(
        &self,
        association: &AssociationId,
        profile: &ProfileRef,
        until: Timestamp,
    ) -> Result<Reply, Error> {
        let call = self
            .sdk
            .replace_iam_instance_profile_association()
            .association_id(association.as_str())
            .iam_instance_profile(specified(profile))
            .customize()
            .config_override(self.gate.limits())
            .interceptor(self.gate.until(until));
        let reply = self.caller.call("ReplaceIamInstanceProfileAssociation", call.send()).await?;
        Ok(read_reply(reply.iam_instance_profile_association(), reply.request_id()))
    }

    /// Takes a profile off.
    pub async fn disassociate(&self, association: &AssociationId, until: Timestamp) -> Result<Reply, Error> {
        let call = self
            .sdk
            .disassociate_iam_instance_profile()
            .association_id(association.as_str())
            .customize()
            .config_override(self.gate.limits())
            .interceptor(self.gate.until(until));
        let reply = self.caller.call("DisassociateIamInstanceProfile", call.send()).await?;
        Ok(read_reply(reply.iam_instance_profile_association(), reply.request_id()))
    }

    /// Asks whether an Associate would be let through: profile known, action and iam:PassRole allowed. It looks at
    /// neither association nor instance state. The SDK's model lacks `DryRun`, the service honours it on the
    /// wire (`aws-semantics` 1.1).
    pub async fn would_associate(&self, instance: &InstanceId, profile: &ProfileRef) -> Result<(), Error> {
        let call = self
            .sdk
            .associate_iam_instance_profile()
            .instance_id(instance.as_str())
            .iam_instance_profile(specified(profile))
            .customize()
            .mutate_request(|request| {
                let form = request.body().bytes().map(|form| [form, b"&DryRun=true"].concat());
                if let Some(form) = form {
                    request.headers_mut().insert("content-length", form.len().to_string());
                    *request.body_mut() = SdkBody::from(form);
                }
            });
        match self.caller.call("AssociateIamInstanceProfile", call.send()).await {
            Err(error) if error.meaning() == Meaning::DryRunPassed => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }

    fn read<T, E>(
        &self,
        read: Read,
        call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> impl Future<Output = Result<T, Error>>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let answer = self.caller.call(read.name(), call);
        async move {
            let result = answer.await;
            if result.as_ref().is_err_and(|error| error.meaning() == Meaning::Throttled) {
                self.bucket(read).lock().await.throttled(Instant::now());
            }
            result
        }
    }
}

impl Caller {
    /// Makes a call, counts and measures it, and gives its error a meaning.
    pub(super) fn call<T, E>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> impl Future<Output = Result<T, Error>>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        // The SDK's futures take ten kilobytes and more; a pass over a binding has several in it that it rarely comes to.
        let call = Box::pin(call);
        async move {
            let began = Instant::now();
            let span = tracing::info_span!("aws", otel.name = operation, otel.kind = "client", code = Empty);
            let result = call.instrument(span.clone()).await;
            let result = result.map_err(|error| Error::from_sdk(operation, self.role.as_ref(), &error));
            if let Err(Error::NotSent { .. } | Error::Late { .. }) = &result {
                return result;
            }
            let code = result.as_ref().err().map_or(labels::OK, Error::code);
            span.record("code", code);
            self.metrics.aws_request(operation, code, began.elapsed().as_secs_f64());
            if let Err(error) = &result {
                if error.meaning() == Meaning::Throttled {
                    self.metrics.throttled(operation);
                }
                tracing::debug!(operation, code, %error, "AWS call failed");
            }
            result
        }
    }
}

/// An answer that cannot be understood is none.
fn garbled(read: Read) -> Error {
    Error::NoReply { operation: read.name(), cause: "the answer cannot be understood".into() }
}

fn by_id(ids: &[InstanceId]) -> Filter {
    Filter::builder()
        .name("instance-id")
        .set_values(Some(ids.iter().map(ToString::to_string).collect()))
        .build()
}

/// Exactly one of ARN and name: where both are sent and differ, the ARN wins silently (`aws-semantics` 1.1).
fn specified(profile: &ProfileRef) -> IamInstanceProfileSpecification {
    match profile {
        ProfileRef::Arn(arn) => IamInstanceProfileSpecification::builder().arn(arn.as_str()).build(),
        ProfileRef::Name(name) => IamInstanceProfileSpecification::builder().name(name.as_str()).build(),
    }
}

fn read_row(row: &IamInstanceProfileAssociation, now: Timestamp) -> Option<Row> {
    let instance = InstanceId::parse(row.instance_id()?).ok()?;
    Some((instance, read_association(row, now)))
}

fn read_association(row: &IamInstanceProfileAssociation, now: Timestamp) -> Option<Association> {
    let profile = row.iam_instance_profile()?;
    Some(Association {
        id: AssociationId::parse(row.association_id()?).ok()?,
        profile: ProfileArn::parse(profile.arn()?).ok()?,
        profile_id: profile.id().and_then(|id| ProfileId::parse(id).ok()),
        state: AssociationState::from(row.state()?.as_str()),
        since: now,
    })
}

fn read_reply(row: Option<&IamInstanceProfileAssociation>, request_id: Option<&str>) -> Reply {
    Reply {
        association: row.and_then(|row| read_association(row, Timestamp::now())),
        request_id: request_id.map(str::to_owned),
    }
}

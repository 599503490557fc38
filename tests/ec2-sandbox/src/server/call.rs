//! One API call: who, then journal, throttle, fault, state machine, journal.

use std::sync::Arc;
use std::time::Duration;

use hyper::http::request::Parts;

use super::{Answer, Server, Shared};
use crate::error::ApiError;
use crate::fault::{Aim, Client, Effect};
use crate::journal::Entry;
use crate::throttle;
use crate::time::Millis;
use crate::wire::{self, Params, Signature, Twist};
use crate::world::Scope;

/// How long a client that is to get no reply is kept waiting; any client gives up before.
const FOR_EVER: Duration = Duration::from_secs(600);

const WEB_IDENTITY: &str = "AssumeRoleWithWebIdentity";

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Call {
    signature: Result<Signature, ApiError>,
    action: String,
    params: Params,
    user_agent: String,
}

/// A call that is in the journal and may go on.
struct Admitted {
    seq: u64,
    request_id: String,
    fault: Option<Effect>,
    scope: Option<Scope>,
}

impl Call {
    pub fn read(head: &Parts, body: &[u8]) -> Self {
        let form = if body.is_empty() { head.uri.query().unwrap_or_default().as_bytes() } else { body };
        let params = Params::parse(form);
        let user_agent = head.headers.get("user-agent").and_then(|value| value.to_str().ok());
        Self {
            signature: wire::read_signature(&head.headers),
            action: params.get("Action").unwrap_or_default().to_owned(),
            user_agent: user_agent.unwrap_or_default().to_owned(),
            params,
        }
    }

    /// Answers the call, or closes its connection.
    pub async fn run(self, server: Arc<Server>) -> Option<Answer> {
        let admitted = match self.admit(&server) {
            Ok(admitted) => admitted,
            Err(refused) => return Some(refused),
        };
        let twist = match &admitted.fault {
            None | Some(Effect::LostReply) => Twist::default(),
            Some(Effect::Hang { ms }) => {
                tokio::time::sleep(Duration::from_millis(*ms)).await;
                Twist::default()
            }
            Some(Effect::PartialPage { rows }) => Twist { partial: Some((*rows).max(1)), ..Twist::default() },
            Some(Effect::StaleRead { ms }) => Twist { stale_ms: *ms, ..Twist::default() },
            Some(Effect::Error { code, status, message }) => {
                return Some(self.refuse(&server, &admitted, &ApiError::new(code, *status, message)));
            }
            Some(Effect::Throttle) => {
                return Some(self.refuse(&server, &admitted, &throttle::refusal(self.service())));
            }
            Some(Effect::Drop) => {
                self.give_up(&server, &admitted, Some("dropped"));
                return None;
            }
            Some(Effect::Late { ms, client }) => {
                let (ms, client) = (*ms, *client);
                self.run_late(server, admitted, ms, client).await;
                return None;
            }
        };
        let delivered = admitted.fault != Some(Effect::LostReply);
        let answer = self.carry_out(&server, &admitted, twist, delivered);
        delivered.then_some(answer)
    }

    async fn run_late(self, server: Arc<Server>, admitted: Admitted, ms: Millis, client: Client) {
        self.give_up(&server, &admitted, None);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            self.carry_out(&server, &admitted, Twist::default(), false);
        });
        if client == Client::Hang {
            tokio::time::sleep(FOR_EVER).await;
        }
    }

    /// Writes the call down, finds out who calls, takes a token and looks for a fault.
    fn admit(&self, server: &Server) -> Result<Admitted, Answer> {
        let mut shared = server.lock();
        let now = server.clock.now();
        let scope = self.identify(&shared, now);
        let request_id = shared.world.request_id();
        let mut entry = self.entry(now, &request_id);
        let mut ids: Vec<String> = Vec::new();
        if let Ok(Some(scope)) = &scope {
            entry.account.clone_from(&scope.account);
            entry.identity.clone_from(&scope.caller.arn);
            let target = wire::target(&mut shared.world, now, scope, &self.action, &self.params);
            ids.extend(target.instance.clone());
            (entry.instance, entry.from_profile, entry.to_profile) =
                (target.instance, target.from, target.to);
        }
        let limit = shared.world.settings.journal_limit.max(1);
        let seq = shared.journal.begin(entry, limit);
        let mut admitted = Admitted { seq, request_id, fault: None, scope: None };
        let taken = scope.and_then(|scope| {
            if let Some(scope) = &scope {
                let call =
                    (scope.account.as_str(), scope.region.as_str(), self.service(), self.action.as_str());
                let Shared { world, throttle, .. } = &mut *shared;
                throttle.take(now, &world.settings, call, self.is_unfiltered())?;
            }
            Ok(scope)
        });
        match taken {
            Ok(scope) => {
                let aim = self.aim(scope.as_ref(), &ids);
                let struck = shared.faults.strike(&aim);
                if let (Some((id, _)), Some(entry)) = (&struck, shared.journal.entry(seq)) {
                    entry.fault = Some(*id);
                }
                admitted.fault = struck.map(|(_, effect)| effect);
                admitted.scope = scope;
                Ok(admitted)
            }
            Err(error) => {
                drop(shared);
                Err(self.refuse(server, &admitted, &error))
            }
        }
    }

    /// Who calls; nobody for the one action that is not signed.
    fn identify(&self, shared: &Shared, now: Millis) -> Result<Option<Scope>, ApiError> {
        match &self.signature {
            Ok(signature) => {
                let Signature { access_key, region, service, token } = signature;
                shared.world.identify(now, service, region, access_key, token.as_deref()).map(Some)
            }
            Err(_) if self.action == WEB_IDENTITY => Ok(None),
            Err(_) if self.service() == "ec2" => Err(wire::not_validated()),
            Err(error) => Err(error.clone()),
        }
    }

    fn service(&self) -> &str {
        match (&self.signature, self.params.get("Version")) {
            (Ok(signature), _) => &signature.service,
            (Err(_), Some("2016-11-15")) => "ec2",
            (Err(_), Some("2010-05-08")) => "iam",
            (Err(_), _) => "sts",
        }
    }

    fn is_unfiltered(&self) -> bool {
        !self.params.iter().any(|(name, _)| {
            name == "MaxResults"
                || name == "NextToken"
                || name.starts_with("Filter.")
                || name.starts_with("InstanceId.")
        })
    }

    fn aim<'a>(&'a self, scope: Option<&'a Scope>, ids: &'a [String]) -> Aim<'a> {
        let mut aim = Aim { action: &self.action, ..Aim::default() };
        if let Some(scope) = scope {
            (aim.account, aim.region) = (&scope.account, &scope.region);
            aim.callers = vec![&scope.caller.arn, &scope.caller.identity];
        }
        aim.callers.extend(self.signature.as_ref().ok().map(|signature| signature.access_key.as_str()));
        aim.ids = self.params.iter().map(|(_, value)| value).collect();
        aim.ids.extend(ids.iter().map(String::as_str));
        aim
    }

    fn entry(&self, now: Millis, request_id: &str) -> Entry {
        let signature = self.signature.as_ref().ok();
        let shown = self
            .params
            .iter()
            .filter(|(name, _)| !matches!(*name, "Action" | "Version" | "WebIdentityToken"));
        Entry {
            seq: 0,
            time: String::new(),
            started_ms: now,
            ended_ms: None,
            effect_ms: None,
            account: String::new(),
            region: signature.map(|signature| signature.region.clone()).unwrap_or_default(),
            service: self.service().to_owned(),
            action: self.action.clone(),
            params: shown.map(|(name, value)| (name.to_owned(), value.into())).collect(),
            identity: String::new(),
            access_key: signature.map(|signature| signature.access_key.clone()).unwrap_or_default(),
            user_agent: self.user_agent.clone(),
            result: "pending".to_owned(),
            message: None,
            request_id: request_id.to_owned(),
            delivered: false,
            fault: None,
            instance: None,
            from_profile: None,
            to_profile: None,
        }
    }

    /// Lets the state machine do it, and writes down what came of it.
    fn carry_out(&self, server: &Server, admitted: &Admitted, twist: Twist, delivered: bool) -> Answer {
        let mut shared = server.lock();
        let now = server.clock.now();
        let params = self.params.clone();
        let result = match &admitted.scope {
            Some(scope) => {
                let target = wire::target(&mut shared.world, now, scope, &self.action, &self.params);
                if let Some(entry) = shared.journal.entry(admitted.seq).filter(|_| target.from.is_some()) {
                    entry.from_profile = target.from;
                }
                let action = (self.service(), self.action.as_str());
                wire::carry_out(&mut shared.world, now, scope, action, params, twist)
            }
            None => wire::assume_role_with_web_identity(&mut shared.world, now, params),
        };
        if let Some(entry) = shared.journal.entry(admitted.seq) {
            entry.carried_out(now, result.as_ref().map(drop));
            entry.ended_ms.get_or_insert(now);
            entry.delivered = delivered;
        }
        drop(shared);
        match result {
            Ok(result) => Answer {
                status: 200,
                content_type: "text/xml;charset=UTF-8",
                body: wire::success(self.service(), &self.action, &admitted.request_id, &result),
                request_id: admitted.request_id.clone(),
            },
            Err(error) => self.render(admitted, &error),
        }
    }

    /// Refuses before the state machine is asked.
    fn refuse(&self, server: &Server, admitted: &Admitted, error: &ApiError) -> Answer {
        if let Some(entry) = server.lock().journal.entry(admitted.seq) {
            entry.refused_or_ok(Err(error));
            (entry.ended_ms, entry.delivered) = (Some(server.clock.now()), true);
        }
        self.render(admitted, error)
    }

    /// Writes down that the client gets no reply.
    fn give_up(&self, server: &Server, admitted: &Admitted, result: Option<&str>) {
        if let Some(entry) = server.lock().journal.entry(admitted.seq) {
            (entry.ended_ms, entry.delivered) = (Some(server.clock.now()), false);
            if let Some(result) = result {
                entry.result = result.to_owned();
            }
        }
    }

    fn render(&self, admitted: &Admitted, error: &ApiError) -> Answer {
        Answer {
            status: error.status,
            content_type: "text/xml;charset=UTF-8",
            body: wire::failure(self.service(), &admitted.request_id, error),
            request_id: admitted.request_id.clone(),
        }
    }
}

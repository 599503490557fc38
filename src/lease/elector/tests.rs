//! The elector against a small API server that keeps one Lease, in paused time. What the real one does is seen in
//! `tests/e2e/leader_election.rs`.

use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use kube::client::Body;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;

/// How the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    /// It says nothing.
    Silent,
    /// It does what it is asked, and the answer is lost.
    LosesAnswers,
    Failing,
}

#[derive(Debug)]
struct Server {
    mood: Mood,
    lease: Option<Value>,
    version: u64,
    news: tokio::sync::watch::Sender<u64>,
}

type Shared = Arc<Mutex<Server>>;

fn server() -> Shared {
    let news = tokio::sync::watch::Sender::new(0);
    Arc::new(Mutex::new(Server { mood: Mood::Well, lease: None, version: 0, news }))
}

impl Server {
    fn serve(&mut self, method: &Method, body: &Value) -> (u16, Value) {
        let status =
            |code: u16| (code, json!({"kind": "Status", "status": "Failure", "code": code, "reason": "no"}));
        let there = self.lease.clone();
        match (method, there) {
            (&Method::GET, Some(lease)) => (200, lease),
            (&Method::GET, None) => status(404),
            (&Method::POST, Some(_)) => status(409),
            (&Method::POST, None) => (201, self.put(body["spec"].clone())),
            (_, None) => status(404),
            (_, Some(lease))
                if lease["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"] =>
            {
                status(409)
            }
            (_, Some(_)) => (200, self.put(body["spec"].clone())),
        }
    }

    fn put(&mut self, spec: Value) -> Value {
        self.version += 1;
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": spec,
            "metadata": {"name": "lease", "namespace": "here", "resourceVersion": self.version.to_string()},
        });
        self.lease = Some(lease.clone());
        self.news.send_replace(self.version);
        lease
    }
}

async fn answer(server: Shared, request: Request<Body>) -> Result<Response<Body>, std::convert::Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect_bytes().await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let reply = |code: u16, text: String| {
        Ok(Response::builder().status(code).body(Body::from(text.into_bytes())).unwrap())
    };
    let mood = server.lock().unwrap().mood;
    match mood {
        Mood::Silent => return std::future::pending().await,
        Mood::Failing => return reply(500, json!({"kind": "Status", "code": 500}).to_string()),
        Mood::Well | Mood::LosesAnswers => {}
    }
    if query.contains("watch=") {
        // One change, then the watch ends and is taken up again.
        let mut news = server.lock().unwrap().news.subscribe();
        let _ = news.changed().await;
        let lease = server.lock().unwrap().lease.clone();
        return reply(200, format!("{}\n", json!({"type": "MODIFIED", "object": lease})));
    }
    if query.contains("fieldSelector") {
        let server = server.lock().unwrap();
        let items: Vec<&Value> = server.lease.iter().collect();
        let list = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "LeaseList", "items": items,
                          "metadata": {"resourceVersion": server.version.to_string()}});
        return reply(200, list.to_string());
    }
    let (code, object) = server.lock().unwrap().serve(&parts.method, &body);
    if mood == Mood::LosesAnswers {
        return std::future::pending().await;
    }
    reply(code, object.to_string())
}

/// A running candidate.
struct Replica {
    news: mpsc::UnboundedReceiver<News>,
    quiet: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Replica {
    fn start(server: &Shared, name: &str) -> Self {
        let client = {
            let server = Arc::clone(server);
            let answering = move |request: Request<Body>| answer(Arc::clone(&server), request);
            Client::new(tower::service_fn(answering), "here")
        };
        let s = Duration::from_secs;
        let terms = Terms::new(s(15), s(10), s(2)).unwrap();
        let seat = Seat { namespace: "here".into(), name: "lease".into(), identity: name.to_owned(), terms };
        let elector = Elector::new(client.clone(), client, seat, Clock::Tokio(tokio::time::Instant::now()));
        let ((tell, news), (quiet, stopped)) = (mpsc::unbounded_channel(), oneshot::channel());
        let task = tokio::spawn(elector.run(
            std::future::ready(()),
            move |news| {
                let _ = tell.send(news);
            },
            stopped,
        ));
        Self { news, quiet: Some(quiet), task }
    }

    /// Waits until it leads, and how long that took.
    async fn leads(&mut self) -> (Fence, Duration) {
        let began = tokio::time::Instant::now();
        loop {
            if let News::Leads(fence) = self.news.recv().await.unwrap() {
                return (fence, began.elapsed());
            }
        }
    }

    async fn stands_by(&mut self) -> Duration {
        let began = tokio::time::Instant::now();
        while !matches!(self.news.recv().await.unwrap(), News::StandsBy) {}
        began.elapsed()
    }
}

fn mood(server: &Shared, mood: Mood) {
    server.lock().unwrap().mood = mood;
}

fn seconds(duration: Duration) -> u64 {
    duration.as_secs()
}

#[tokio::test(start_paused = true)]
async fn a_leader_keeps_the_lease_and_hands_it_over_at_once() {
    let server = server();
    let mut one = Replica::start(&server, "one");
    let (fence, _) = one.leads().await;
    let mut two = Replica::start(&server, "two");
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(fence.is_open(), "renewed for two minutes");
    one.quiet.take().unwrap().send(()).unwrap();
    one.task.await.unwrap();
    assert!(!fence.is_open());
    let (_, took) = two.leads().await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(server.lock().unwrap().lease.as_ref().unwrap()["spec"]["leaseTransitions"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_gone_is_waited_for_as_long_as_its_lease() {
    let server = server();
    let mut one = Replica::start(&server, "one");
    one.leads().await;
    let mut two = Replica::start(&server, "two");
    tokio::time::sleep(Duration::from_secs(60)).await;
    one.task.abort();
    let (_, took) = two.leads().await;
    assert!((12..=17).contains(&seconds(took)), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_server_is_silent_or_failing_stands_by_in_time_and_leads_again() {
    for bad in [Mood::Silent, Mood::Failing, Mood::LosesAnswers] {
        let server = server();
        let mut one = Replica::start(&server, "one");
        let (fence, _) = one.leads().await;
        tokio::time::sleep(Duration::from_secs(31)).await;
        mood(&server, bad);
        let took = one.stands_by().await;
        assert!((7..=10).contains(&seconds(took)), "{bad:?}: {took:?}");
        assert!(!fence.is_open());
        mood(&server, Mood::Well);
        let (again, took) = one.leads().await;
        assert!(seconds(took) <= 25, "{bad:?}: {took:?}");
        assert!(again.is_open() && !fence.is_open(), "another time of leading");
    }
}

#[tokio::test(start_paused = true)]
async fn the_process_that_ends_without_a_word_releases_nothing() {
    let server = server();
    let mut one = Replica::start(&server, "one");
    one.leads().await;
    drop(one.quiet.take());
    one.task.await.unwrap();
    assert_eq!(server.lock().unwrap().lease.as_ref().unwrap()["spec"]["holderIdentity"], "one");
}

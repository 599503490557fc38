//! All parts together, as one would find them in a cluster.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::json;

use crate::control_plane::{ApiCall, ControlPlane};
use crate::controller::{Controller, ControllerCommand};
use crate::grants::{EVERYTHING, GRANTED, everything, grant_object, grant_path};
use crate::places::repository;
use crate::sandbox::Sandbox;
use crate::scenario::Scenario;
use crate::scratch::Scratch;
use crate::tap::Tap;

/// Where the shipped manifests put the controller.
const NAMESPACE: &str = "instance-role-system";
const SERVICE_ACCOUNT: &str = "instance-role-controller";

/// What a world is to be made of.
#[derive(Debug, Clone, Default)]
pub struct WorldOptions {
    /// A control plane of its own, for a test that stops it, or wants to see the requests of its own controller
    /// only. Otherwise all such worlds of this process share one, and each world's controller watches one
    /// namespace. One of its own costs 3 seconds on two free cores.
    pub own_control_plane: bool,
    /// Flags of the sandbox.
    pub sandbox_flags: Vec<String>,
    /// Flags of the controller.
    pub controller_flags: Vec<String>,
    /// No controller at the start; see [`World::controller_command`].
    pub without_controller: bool,
    /// Which grants there are at the start.
    pub grants: Grants,
}

/// The grants that a world begins with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Grants {
    /// A wide one, [`EVERYTHING`](crate::EVERYTHING), for every namespace of a [`World::scenario`].
    #[default]
    Everything,
    /// None: each of its scenarios is a [`World::stranger`].
    None,
}

/// A control plane with the shipped manifests applied, a sandbox, and a controller as its service account.
#[derive(Debug)]
pub struct World {
    controller: Option<Controller>,
    sandbox: Sandbox,
    plane: Plane,
    options: WorldOptions,
    kubeconfig: PathBuf,
    /// The one namespace that the controller watches, if it does not watch all.
    only: Option<String>,
    scratch: Scratch,
}

#[derive(Debug)]
enum Plane {
    Own(Box<ControlPlane>),
    Shared(&'static ControlPlane),
}

impl World {
    /// Makes a world.
    ///
    /// # Errors
    /// A part has not been built or does not get ready; its words are told.
    pub fn new(options: WorldOptions) -> Result<Self> {
        let plane = if options.own_control_plane {
            let plane = ControlPlane::start()?;
            install(&plane)?;
            Plane::Own(Box::new(plane))
        } else {
            Plane::Shared(shared_with_manifests()?)
        };
        if options.grants == Grants::Everything {
            plane.get().api().apply(&grant_path(EVERYTHING), &grant_object(EVERYTHING, &everything()))?;
        }
        let flags: Vec<&str> = options.sandbox_flags.iter().map(String::as_str).collect();
        let sandbox = Sandbox::start_with(&flags)?;
        let kubeconfig = plane.get().kubeconfig_for(NAMESPACE, SERVICE_ACCOUNT)?;
        let only = match plane {
            Plane::Own(_) => None,
            Plane::Shared(plane) => Some(new_namespace(plane, "world", options.grants)?),
        };
        let scratch = Scratch::new("controller")?;
        let start = !options.without_controller;
        let mut world = Self { controller: None, sandbox, plane, options, kubeconfig, only, scratch };
        if start {
            world.start_controller()?;
        }
        Ok(world)
    }

    /// One world with a control plane of its own that all tests of this process share: one sandbox, one controller,
    /// which lists every 2 seconds. Each test works in a [`scenario`](Self::scenario) of its own.
    ///
    /// # Errors
    /// As for [`new`](Self::new); every caller is told the same.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<World, String>> = OnceLock::new();
        let options = || WorldOptions {
            own_control_plane: true,
            controller_flags: vec!["--resync-interval=2s".to_owned()],
            ..WorldOptions::default()
        };
        let shared = SHARED.get_or_init(|| Self::new(options()).map_err(|error| format!("{error:#}")));
        shared.as_ref().map_err(|error| anyhow!("the shared world: {error}"))
    }

    /// The API server.
    pub fn control_plane(&self) -> &ControlPlane {
        self.plane.get()
    }

    /// Every request that the controller has made of the API server, oldest first (with a shared control plane:
    /// the controllers of all worlds). What is still under way, as a watch, is not there.
    ///
    /// # Errors
    /// The audit log cannot be read.
    pub fn api_calls(&self) -> Result<Vec<ApiCall>> {
        let mut calls = self.control_plane().calls_of_service_accounts()?;
        calls.retain(|call| call.is_by(NAMESPACE, SERVICE_ACCOUNT));
        Ok(calls)
    }

    /// EC2.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// The controller.
    ///
    /// # Errors
    /// None was started.
    pub fn controller(&self) -> Result<&Controller> {
        self.controller.as_ref().context("this world has no controller; see World::start_controller")
    }

    /// Starts the controller, after the one that runs has been killed.
    ///
    /// # Errors
    /// It does not get ready.
    pub fn start_controller(&mut self) -> Result<&Controller> {
        self.controller = None;
        let controller = self.controller_command().start(self.scratch.path(), "controller")?;
        Ok(self.controller.insert(controller))
    }

    /// Takes the controller out of the world, to be ended in one way or another.
    ///
    /// # Errors
    /// None was started.
    pub fn take_controller(&mut self) -> Result<Controller> {
        self.controller.take().context("this world has no controller")
    }

    /// How this world's controller is started, for more replicas of it or for one with other flags.
    pub fn controller_command(&self) -> ControllerCommand {
        let command = ControllerCommand::new(&self.kubeconfig, &self.sandbox.aws_env());
        let watch = self.only.iter().map(|namespace| format!("--watch-namespace={namespace}"));
        command.args(watch).args(self.options.controller_flags.iter().cloned())
    }

    /// A wire to this world's API server and EC2, on which requests can be held; see [`ControllerCommand::through`].
    ///
    /// # Errors
    /// This machine has no free port.
    pub fn tap(&self) -> Result<Tap> {
        Tap::new(&self.kubeconfig, self.sandbox.url(), self.scratch.path())
    }

    /// The folder for log files of further controllers.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// A corner of this world: a namespace of its own (the world's only one, if its control plane is shared).
    ///
    /// # Errors
    /// The API server refuses the namespace.
    pub fn scenario(&self, name: &str) -> Result<Scenario<'_>> {
        self.scenario_with(name, self.options.grants)
    }

    /// A corner of this world whose namespace the wide grant does not cover (in a world whose control plane is shared,
    /// only with [`Grants::None`]).
    ///
    /// # Errors
    /// The API server refuses the namespace.
    pub fn stranger(&self, name: &str) -> Result<Scenario<'_>> {
        let widened = self.only.is_some() && self.options.grants != Grants::None;
        ensure!(!widened, "the only namespace of this world is covered by the wide grant");
        self.scenario_with(name, Grants::None)
    }

    fn scenario_with(&self, name: &str, grants: Grants) -> Result<Scenario<'_>> {
        let namespace = match &self.only {
            Some(namespace) => namespace.clone(),
            None => new_namespace(self.control_plane(), name, grants)?,
        };
        Ok(Scenario::new(self, namespace))
    }
}

impl Plane {
    fn get(&self) -> &ControlPlane {
        match self {
            Self::Own(plane) => plane,
            Self::Shared(plane) => plane,
        }
    }
}

/// Applies what a user would apply: `deploy/kustomize/default` with the CRDs. Its Deployment makes no pods here.
fn install(plane: &ControlPlane) -> Result<()> {
    let manifests = repository().join("deploy/kustomize/default");
    let kubectl = plane.admin();
    kubectl
        .run(&["apply", "--server-side", "-k", &manifests.to_string_lossy()])
        .context("the shipped manifests cannot be applied (are the CRDs written? `make crds`)")?;
    for crd in ["instancerolebindings.instancerole.dev", "instancerolegrants.instancerole.dev"] {
        let crd = format!("crd/{crd}");
        kubectl.run(&["wait", "--for=condition=Established", &crd, "--timeout=30s"])?;
    }
    Ok(())
}

fn shared_with_manifests() -> Result<&'static ControlPlane> {
    static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
    let plane = ControlPlane::shared()?;
    let installed = INSTALLED.get_or_init(|| install(plane).map_err(|error| format!("{error:#}")));
    installed.clone().map_err(|error| anyhow!(error))?;
    Ok(plane)
}

/// A namespace that was not there before; `name` becomes its beginning.
fn new_namespace(plane: &ControlPlane, name: &str, grants: Grants) -> Result<String> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let namespace = format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let labels = match grants {
        Grants::Everything => json!({GRANTED: "true"}),
        Grants::None => json!({}),
    };
    let object = json!({"metadata": {"name": namespace, "labels": labels}});
    plane.api().create("/api/v1/namespaces", &object)?;
    Ok(namespace)
}

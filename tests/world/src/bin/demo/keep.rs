//! Everything stays up, and a person plays with it.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use world::{ACCOUNT, World, binary, repository, venv_program};

use crate::samples::NAMESPACE;
use crate::screen::{Paint, Screen};

/// Tells how to use it, and stays until ctrl-c or until a part ends.
pub fn keep(screen: &Screen, world: &World) -> Result<()> {
    let kubectl = world.control_plane().admin();
    let aws = venv_program("aws")?;
    let env = world.sandbox().aws_env().as_user(ACCOUNT, "PERSON");
    screen.gap();
    screen.line(&screen.paint(Paint::Bold, "It runs on until ctrl-c. In another terminal:"));
    screen.gap();
    screen.line(&format!("export KUBECONFIG={}", world.control_plane().kubeconfig().display()));
    let needed =
        ["AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PAGER"];
    for (name, value) in env.variables().iter().filter(|(name, _)| needed.contains(name)) {
        screen.line(&format!("export {name}={value}"));
    }
    let controller = binary("instance-role-controller", "INSTANCE_ROLE_CONTROLLER_BIN")?;
    let programs = [kubectl.program(), aws.as_path(), controller.as_path()].map(|program| program.parent());
    let folders = programs.into_iter().flatten().map(|folder| folder.display().to_string());
    screen.line(&format!("export PATH={}:$PATH", folders.collect::<Vec<_>>().join(":")));
    // What README's example names.
    world.sandbox().profile("web")?;
    world.sandbox().add_instances(&json!({"ids": ["i-0123456789abcdef0"], "state": "running"}))?;
    screen.gap();
    screen.text(
        "README's \"First real use\" can be done here from step 3 on: the profile web and the instance i-0123456789abcdef0 are \
         there. There is no kubelet: a Deployment that you apply has no pods, and this controller acts.",
    );
    screen.gap();
    for (command, what) in [
        (format!("kubectl -n {NAMESPACE} get irb --watch"), "all bindings, as they change"),
        (format!("kubectl -n {NAMESPACE} describe irb replace-on-running"), "one of them, with its story"),
        (format!("kubectl -n {NAMESPACE} edit irb replace-on-running"), "another profile"),
        ("kubectl explain irb.spec.instanceProfile".to_owned(), "every field is described"),
        (
            format!("kubectl apply -f {}/deploy/samples/10-deletion-detaches.yaml", repository().display()),
            "the one that was deleted",
        ),
        ("aws ec2 describe-iam-instance-profile-associations --output table".to_owned(), "what EC2 has"),
        (
            "aws ec2 associate-iam-instance-profile --iam-instance-profile Name=demo-old \\\n      \
             --instance-id i-0a1b2c3d4e5f60007"
                .to_owned(),
            "drift: that one must have none",
        ),
        (
            format!("curl -s {}/_sandbox/journal | python3 -m json.tool", world.sandbox().url()),
            "every call that EC2 got",
        ),
        (format!("tail -f {}", world.controller()?.process().log().display()), "the controller's log"),
    ] {
        screen.aside(&format!("# {what}"));
        screen.line(&command);
    }
    loop {
        std::thread::sleep(Duration::from_secs(1));
        world.controller()?.process().still_runs()?;
        world.sandbox().process().still_runs()?;
    }
}

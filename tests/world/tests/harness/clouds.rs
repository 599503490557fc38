//! The two stand-ins for AWS, seen through the `aws` CLI.

use anyhow::Result;
use serde_json::json;
use world::{ACCOUNT, Moto, Sandbox};

#[test]
fn the_aws_cli_and_the_admin_api_see_one_sandbox() -> Result<()> {
    let sandbox = Sandbox::start_with(&["--no-throttling", "--set=associating_ms=0"])?;
    let web = sandbox.profile("web")?;
    assert_eq!(web, format!("arn:aws:iam::{ACCOUNT}:instance-profile/web"));
    assert_eq!(sandbox.profile("web")?, web, "it is made once");
    let instance = sandbox.instance("running", None)?;
    assert_eq!(sandbox.profile_of(&instance)?, None);

    let before = sandbox.last_call()?;
    let words = ["ec2", "associate-iam-instance-profile", "--instance-id", &instance];
    sandbox.aws_cli().run(&[&words[..], &["--iam-instance-profile", "Name=web"]].concat())?;
    assert_eq!(sandbox.profile_of(&instance)?, Some(web.clone()));

    let calls = sandbox.calls_since(before)?;
    let [call] = &calls[..] else { panic!("one call, not {calls:#?}") };
    assert!(call.is_write() && call.delivered, "{call:#?}");
    assert_eq!((call.result.as_str(), call.account.as_str()), ("ok", ACCOUNT));
    assert_eq!((&call.instance, &call.to_profile), (&Some(instance.clone()), &Some(web)));
    assert!(sandbox.writes_to(&instance)?.is_empty(), "a person is not the controller");
    Ok(())
}

#[test]
fn drift_faults_and_settings_reach_the_sandbox() -> Result<()> {
    let sandbox = Sandbox::start()?;
    let web = sandbox.profile("web")?;
    let instance = sandbox.instance("running", Some("web"))?;
    sandbox.drift(&instance, None)?;
    assert_eq!(sandbox.profile_of(&instance)?, None);
    // The sandbox counts in milliseconds, and what lasted none was no gap.
    std::thread::sleep(std::time::Duration::from_millis(5));
    sandbox.drift(&instance, Some("web"))?;
    assert_eq!(sandbox.profile_of(&instance)?, Some(web));
    assert_eq!(sandbox.gaps(&instance)?.len(), 1, "no profile for a moment: no credentials");

    sandbox.settings(&json!({"throttling": false}))?;
    let refused = sandbox.settings(&json!({"throtling": false})).unwrap_err().to_string();
    assert!(refused.contains("throtling"), "{refused}");

    sandbox.fault(
        &json!({"action": "DescribeInstances", "effect": {"error": {"code": "AuthFailure", "status": 401}}}),
    )?;
    let refused = sandbox.aws_cli().run(&["ec2", "describe-instances"]).unwrap_err().to_string();
    assert!(refused.contains("AuthFailure"), "{refused}");
    Ok(())
}

#[test]
fn moto_answers_the_aws_cli() -> Result<()> {
    let moto = Moto::start()?;
    let caller = moto.aws_cli().run(&["sts", "get-caller-identity"])?;
    assert_eq!(caller["Account"], ACCOUNT);
    Ok(())
}

"""What people write instead of a controller: a loop over instances, describe, act, describe.

    loop.py aws-cli|boto3 change|check PROFILE_ARN INSTANCE...

`change` brings each instance to the profile, `check` only looks whether each has it. Where AWS is, the environment
says. `aws-cli` runs one process for each call, as shell scripts do. Waiting for `associated` is not waited for: each
state is looked at once, as most such scripts do.
"""

import json
import os
import subprocess
import sys


class AwsCli:
    """One `aws` process for each call."""

    program = os.path.join(os.path.dirname(sys.executable), "aws")

    def call(self, command, *arguments):
        run = [self.program, "ec2", command, *arguments, "--output", "json"]
        return json.loads(subprocess.run(run, check=True, stdout=subprocess.PIPE).stdout)

    def associations(self, instance):
        found = self.call(
            "describe-iam-instance-profile-associations", "--filters", f"Name=instance-id,Values={instance}"
        )
        return found["IamInstanceProfileAssociations"]

    def associate(self, instance, arn):
        self.call(
            "associate-iam-instance-profile", "--instance-id", instance, "--iam-instance-profile", f"Arn={arn}"
        )

    def replace(self, association, arn):
        self.call(
            "replace-iam-instance-profile-association",
            "--association-id", association, "--iam-instance-profile", f"Arn={arn}",
        )


class Boto3:
    """One client, its connection kept; its default retries."""

    def __init__(self):
        import boto3

        self.ec2 = boto3.client("ec2")

    def associations(self, instance):
        filters = [{"Name": "instance-id", "Values": [instance]}]
        found = self.ec2.describe_iam_instance_profile_associations(Filters=filters)
        return found["IamInstanceProfileAssociations"]

    def associate(self, instance, arn):
        self.ec2.associate_iam_instance_profile(InstanceId=instance, IamInstanceProfile={"Arn": arn})

    def replace(self, association, arn):
        self.ec2.replace_iam_instance_profile_association(
            AssociationId=association, IamInstanceProfile={"Arn": arn}
        )


def live(ec2, instance):
    rows = ec2.associations(instance)
    return next((row for row in rows if row["State"] in ("associating", "associated")), None)


def carries(row, arn):
    return row is not None and row["IamInstanceProfile"]["Arn"] == arn


def change(ec2, arn, instance):
    row = live(ec2, instance)
    if carries(row, arn):
        return
    if row is None:
        ec2.associate(instance, arn)
    else:
        ec2.replace(row["AssociationId"], arn)
    if not carries(live(ec2, instance), arn):
        sys.exit(f"{instance} does not carry {arn}")


def check(ec2, arn, instance):
    if not carries(live(ec2, instance), arn):
        sys.exit(f"{instance} does not carry {arn}")


def main():
    peer, work, arn, *instances = sys.argv[1:]
    ec2 = {"aws-cli": AwsCli, "boto3": Boto3}[peer]()
    for instance in instances:
        {"change": change, "check": check}[work](ec2, arn, instance)


if __name__ == "__main__":
    main()

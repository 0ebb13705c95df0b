"""The machine that runs jobs, as an EC2 launch template for AWS Batch."""

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from constructs import Construct

_ECS_AGENT_SETTINGS = (
    # On TerminateJob or a time-out: what is left of the two minutes' notice, less a margin. ECS's default is 30 s.
    "ECS_CONTAINER_STOP_TIMEOUT=110s",
    # After an interruption notice no new job is placed on the host. Running jobs are not told: they poll IMDS.
    "ECS_ENABLE_SPOT_INSTANCE_DRAINING=true",
    "ECS_ENABLE_CONTAINER_METADATA=true",
    # Log streams are written with the job's execution role, so that the host's needs no permission on logs. The
    # agent's packages set it since 1.16; stated, because without it every job would lose its log.
    "ECS_ENABLE_AWSLOGS_EXECUTIONROLE_OVERRIDE=true",
)

# AWS Batch merges its own part, so it takes user data as MIME multi-part only.
_USER_DATA = "\n".join(
    [
        "MIME-Version: 1.0",
        'Content-Type: multipart/mixed; boundary="==SPOTKEEPER=="',
        "",
        "--==SPOTKEEPER==",
        'Content-Type: text/x-shellscript; charset="us-ascii"',
        "",
        "#!/bin/bash",
        *(f"echo {setting} >> /etc/ecs/ecs.config" for setting in _ECS_AGENT_SETTINGS),
        "",
        "--==SPOTKEEPER==--",
        "",
    ]
)


class JobHost(Construct):
    """Launch template: IMDSv2 only, an encrypted and tagged gp3 root volume, and the ECS agent's settings for spot."""

    specification: dict[str, str]
    """`computeResources.launchTemplate`, with the version by number: `$Default` would stay at the first for ever."""

    def __init__(self, scope: Construct, id_: str, *, root_volume_gib: int, volume_tags: dict[str, str]) -> None:
        super().__init__(scope, id_)
        template = ec2.CfnLaunchTemplate(
            self,
            "Template",
            launch_template_data=ec2.CfnLaunchTemplate.LaunchTemplateDataProperty(
                metadata_options=ec2.CfnLaunchTemplate.MetadataOptionsProperty(
                    http_tokens="required",
                    # Two, so that the notice can be read from inside a container; the price is that containers
                    # can read the host role's credentials too, so that role may do next to nothing.
                    http_put_response_hop_limit=2,
                ),
                block_device_mappings=[
                    ec2.CfnLaunchTemplate.BlockDeviceMappingProperty(
                        device_name="/dev/xvda",
                        ebs=ec2.CfnLaunchTemplate.EbsProperty(
                            volume_size=root_volume_gib, volume_type="gp3", encrypted=True, delete_on_termination=True
                        ),
                    )
                ],
                # Instances are tagged by the compute environment, which knows the market; their volumes only here.
                tag_specifications=[
                    ec2.CfnLaunchTemplate.TagSpecificationProperty(
                        resource_type="volume",
                        tags=[cdk.CfnTag(key=key, value=value) for key, value in volume_tags.items()],
                    )
                ],
                user_data=cdk.Fn.base64(_USER_DATA),
            ),
        )
        self.specification = {
            "launchTemplateId": template.ref,
            "version": template.attr_latest_version_number,
        }

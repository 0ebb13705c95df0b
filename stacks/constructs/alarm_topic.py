"""Where alarms go: one topic, and whoever the settings subscribe."""

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from stacks.alarm_settings import AlarmSettings


class AlarmTopic(Construct):
    """A topic to which only CloudWatch alarms of this account and region publish.

    It is not encrypted with a key: CloudWatch may not use AWS's own key of SNS, and a key of ours would cost a dollar a
    month to hide words that stand in this repository, and numbers.
    """

    topic: sns.Topic

    def __init__(self, scope: Construct, id_: str, *, settings: AlarmSettings) -> None:
        super().__init__(scope, id_)
        stack = cdk.Stack.of(self)
        self.topic = sns.Topic(self, "Topic", enforce_ssl=True)
        self.topic.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AlarmsOfThisAccount",
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["sns:Publish"],
                resources=[self.topic.topic_arn],
                conditions={
                    "StringEquals": {"aws:SourceAccount": stack.account},
                    "ArnLike": {
                        "aws:SourceArn": stack.format_arn(
                            service="cloudwatch",
                            resource="alarm",
                            resource_name="*",
                            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
                        )
                    },
                },
            )
        )
        subscribers: tuple[sns.ITopicSubscription, ...] = (
            *(subscriptions.EmailSubscription(email) for email in settings.emails),
            *(subscriptions.UrlSubscription(url, protocol=sns.SubscriptionProtocol.HTTPS) for url in settings.urls),
        )
        for subscriber in subscribers:
            cdk.Validations.of(self.topic.add_subscription(subscriber)).acknowledge(
                cdk.Acknowledgment(
                    id="Serverless-SNSRedrivePolicy",
                    reason="A queue of alarms that could not be delivered would need an alarm of its own, which would "
                    "go the same way; SNS repeats a delivery that fails, and the dashboard shows every alarm.",
                )
            )

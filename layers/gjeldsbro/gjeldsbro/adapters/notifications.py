"""The SNS topic on which the people on duty are told."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient


class Notifications:
    """Messages to everybody who has subscribed to one topic."""

    def __init__(self, topic: str, client: "SNSClient") -> None:
        self._topic = topic
        self._client = client

    @property
    def region(self) -> str:
        """Where the topic is, and with it the stack."""
        return self._client.meta.region_name

    def publish(self, subject: str, text: str) -> None:
        """Send a message; ``subject`` has fewer than 100 printable ASCII characters. Raises botocore's errors."""
        self._client.publish(TopicArn=self._topic, Subject=subject, Message=text)

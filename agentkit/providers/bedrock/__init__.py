"""Amazon Bedrock: Converse and ConverseStream through boto3."""

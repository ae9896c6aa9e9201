"""The bounded HTTP client: connections, authentication, retries, rate limits, responses, errors."""

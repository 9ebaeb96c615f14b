package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/outbox"
)

// outcome reads an error. Some of the batch may have been written all the same.
func (s *Sink) outcome(b outbox.Batch, err error) outbox.Outcome {
	topic := s.Topic(b.Datasource)
	is := func(list ...*kerr.Error) bool {
		for _, e := range list {
			if errors.Is(err, e) {
				return true
			}
		}
		return false
	}
	hold := func(format string, args ...any) outbox.Outcome {
		return outbox.Hold(fmt.Errorf("kafka, topic %s: %w: %s", topic, err, fmt.Sprintf(format, args...)))
	}
	switch {
	case is(kerr.MessageTooLarge, kerr.RecordListTooLarge):
		return outbox.Split(fmt.Errorf("kafka, topic %s: %w: raise its max.message.bytes, or lower max_message", topic, err))
	case is(kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.InvalidTopicException):
		return hold("create the topic, or name another with topic or topic_prefix")
	case is(kerr.SaslAuthenticationFailed):
		return hold("check user, password and mechanism of sasl")
	case is(kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState):
		return hold("use another mechanism of sasl: known are %s", strings.Join(Mechanisms, ", "))
	case is(kerr.TopicAuthorizationFailed):
		return hold("the user needs the right to WRITE to and DESCRIBE the topic")
	case is(kerr.ClusterAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed):
		return hold("the user needs the right to IDEMPOTENT_WRITE in the cluster")
	case is(kerr.UnsupportedVersion, kerr.UnsupportedForMessageFormat, kerr.UnsupportedCompressionType, kerr.PolicyViolation, kerr.InvalidConfig):
		return hold("the broker does not take such messages: check its version and the topic's settings, or set another compression")
	case is(kerr.InvalidRecord):
		return outbox.Blame(fmt.Errorf("kafka, topic %s: %w", topic, err))
	case errors.Is(err, context.DeadlineExceeded):
		return outbox.Retry(0, fmt.Errorf("kafka, topic %s: not acknowledged within %s: %w", topic, s.cfg.Timeout, err))
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: the broker closed the connection: check tls and sasl", err)
	}
	return outbox.Retry(0, fmt.Errorf("kafka, topic %s: %w", topic, err))
}

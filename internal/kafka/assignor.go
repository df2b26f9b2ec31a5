package kafka

import (
	"cmp"
	"slices"

	kgo "github.com/segmentio/kafka-go"
)

// coPartitioned is Kafka's range assignor, made dependable: every topic's partitions are dealt out in the order of their
// numbers, so that topics with equally many partitions are dealt out alike. kafka-go's takes the partitions in whatever order
// the broker lists them, which may differ from topic to topic.
type coPartitioned struct {
	kgo.RangeGroupBalancer
}

// AssignGroups implements kgo.GroupBalancer.
func (b coPartitioned) AssignGroups(members []kgo.GroupMember, partitions []kgo.Partition) kgo.GroupMemberAssignments {
	partitions = slices.SortedFunc(slices.Values(partitions), func(a, b kgo.Partition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.ID, b.ID))
	})
	return b.RangeGroupBalancer.AssignGroups(members, partitions)
}

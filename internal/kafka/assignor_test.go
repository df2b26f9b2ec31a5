package kafka

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	kgo "github.com/segmentio/kafka-go"
)

func TestTopicsAreAssignedAlike(t *testing.T) {
	topics := []string{"a", "b", "c"}
	for members := 1; members <= 5; members++ {
		var group []kgo.GroupMember
		for i := range members {
			group = append(group, kgo.GroupMember{ID: string(rune('z' - i)), Topics: topics})
		}
		var partitions []kgo.Partition
		for _, topic := range topics {
			for id := range 12 {
				partitions = append(partitions, kgo.Partition{Topic: topic, ID: id})
			}
		}
		rand.Shuffle(len(partitions), func(i, j int) { partitions[i], partitions[j] = partitions[j], partitions[i] })
		assigned := 0
		for member, got := range (coPartitioned{}).AssignGroups(group, partitions) {
			assigned += len(got["a"])
			for _, topic := range topics {
				if diff := cmp.Diff(got["a"], got[topic]); diff != "" {
					t.Errorf("%d members, %s has of topics a and %s: %s", members, member, topic, diff)
				}
			}
		}
		if assigned != 12 {
			t.Errorf("%d members: %d of 12 partitions assigned", members, assigned)
		}
	}
}

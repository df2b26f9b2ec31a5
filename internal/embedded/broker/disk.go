package broker

import (
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"
)

// diskGuard stops the intake before the disk is full. kfake itself survives a
// full disk: it refuses the batch, with UNKNOWN_SERVER_ERROR, and cuts the log
// back to the last whole one. But that code tells a client nothing, a topic
// created then is forgotten at the next start, and committed offsets are
// acknowledged without being written.
type diskGuard struct {
	dir     string
	minFree uint64
	cluster *kfake.Cluster
	log     *zap.Logger

	low       atomic.Bool
	installed atomic.Bool // the control functions are in the broker
	refused   atomic.Uint64

	quit, done chan struct{}
}

const (
	defaultMinFree = 256 << 20
	// A disk of 1 GB/s writes a fifth of the default reserve in this time.
	diskInterval = 50 * time.Millisecond
)

func startDiskGuard(cluster *kfake.Cluster, dir string, minFree uint64, log *zap.Logger) *diskGuard {
	g := &diskGuard{dir: dir, minFree: minFree, cluster: cluster, log: log, quit: make(chan struct{}), done: make(chan struct{})}
	if g.minFree == 0 {
		g.minFree = defaultMinFree
		if _, total, err := diskSpace(dir); err == nil {
			g.minFree = min(g.minFree, total/20)
		}
	}
	g.check()
	go g.run()
	return g
}

func (g *diskGuard) run() {
	defer close(g.done)
	tick := time.NewTicker(diskInterval)
	defer tick.Stop()
	for {
		select {
		case <-g.quit:
			return
		case <-tick.C:
			g.check()
		}
	}
}

func (g *diskGuard) close() {
	close(g.quit)
	<-g.done
}

// check runs in one goroutine at a time.
func (g *diskGuard) check() {
	free, _, err := diskSpace(g.dir)
	if err != nil {
		return // nothing is known against writing
	}
	low := free < g.minFree
	if low == g.low.Load() {
		return
	}
	g.low.Store(low)
	if !low {
		g.log.Info("embedded broker: there is disk space again", zap.String("dir", g.dir), zap.Uint64("free_bytes", free))
		return
	}
	g.log.Error("embedded broker: the disk is nearly full: records are refused until there is space",
		zap.String("dir", g.dir), zap.Uint64("free_bytes", free), zap.Uint64("min_free_bytes", g.minFree))
	// Control functions are in the broker only from the first shortage on,
	// because for each of them kfake keeps the last request of every
	// connection there ever was.
	if !g.installed.Swap(true) {
		g.cluster.ControlKey(int16(kmsg.Produce), g.refuseProduce)
		g.cluster.ControlKey(int16(kmsg.CreateTopics), g.refuseCreate)
	}
}

func (g *diskGuard) refuseProduce(req kmsg.Request) (kmsg.Response, error, bool) {
	if !g.low.Load() {
		return nil, nil, false
	}
	g.cluster.KeepControl()
	g.refused.Add(1)
	produce := req.(*kmsg.ProduceRequest)
	if produce.Acks == 0 {
		return nil, nil, true // waits for no answer, and is promised nothing
	}
	resp := produce.ResponseKind().(*kmsg.ProduceResponse)
	for _, topic := range produce.Topics {
		t := kmsg.NewProduceResponseTopic()
		t.Topic, t.TopicID = topic.Topic, topic.TopicID
		for _, partition := range topic.Partitions {
			p := kmsg.NewProduceResponseTopicPartition()
			p.Partition, p.ErrorCode, p.BaseOffset = partition.Partition, kerr.KafkaStorageError.Code, -1
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil, true
}

func (g *diskGuard) refuseCreate(req kmsg.Request) (kmsg.Response, error, bool) {
	if !g.low.Load() {
		return nil, nil, false
	}
	g.cluster.KeepControl()
	g.refused.Add(1)
	create := req.(*kmsg.CreateTopicsRequest)
	resp := create.ResponseKind().(*kmsg.CreateTopicsResponse)
	for _, topic := range create.Topics {
		t := kmsg.NewCreateTopicsResponseTopic()
		t.Topic, t.ErrorCode = topic.Topic, kerr.KafkaStorageError.Code
		t.ErrorMessage = kmsg.StringPtr("the disk of the embedded broker is nearly full")
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil, true
}

// diskSpace is what is free for this process, and the size of the file system.
func diskSpace(dir string) (free, total uint64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	return st.Bavail * uint64(st.Bsize), st.Blocks * uint64(st.Bsize), nil
}

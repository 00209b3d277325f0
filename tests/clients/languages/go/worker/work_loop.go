// The loop that a worker stands on, to be copied as it is: work(task, serve) takes the runs of a task, and calls serve(run) for
// each, in a goroutine of its own.
//
// It promises that a worker comes back when the network breaks or the server restarts, under its name and with the leases that
// it holds, and that what was said of a run is said again until the server knows. A run attaches again where it was, and appends
// again what was not acknowledged, so that it counts once. Once its lease is over, what it asks for next is an error. Only what
// no other try would change ends the loop, and is returned: a key or a task that is refused.

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"example.com/continuo/v1"
)

const (
	idleMs = 1000
	pause  = 100 * time.Millisecond
)

var key = os.Getenv("CONTINUO_SECRET_KEY")

// Calls serve for a fresh run, and again whenever a run that waited goes on. What it returns, anything that JSON can say, is the
// run's output; nil means that the run was suspended. An error fails the attempt.
func work(task string, serve func(run *runContext) (interface{}, error)) error {
	connection, err := grpc.Dial(
		strings.TrimPrefix(os.Getenv("CONTINUO_URL"), "http://"), grpc.WithInsecure(),
		// Pings find out that a connection is dead, and a server that was away is tried again before the leases end.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: pause, Multiplier: 2, MaxDelay: time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	)
	if err != nil {
		return err
	}
	host, _ := os.Hostname()
	workerID := fmt.Sprint(host, "-", os.Getpid())
	hello := &continuo.WorkerHello{WorkerId: workerID, TaskIdentifiers: []string{task}, Capacity: 10}
	return (&workLoop{connection: connection, serve: serve, hello: hello, held: map[string]*held{}}).work()
}

type fields map[string]interface{}

func report(event string, more fields) {
	more["event"] = event
	line, _ := json.Marshal(more)
	fmt.Println(string(line))
}

func bearer(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// The reason that the server gave; without one it was the network.
func errorInfo(err error) *errdetails.ErrorInfo {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info
		}
	}
	return nil
}

// With these there is no point in coming back with the same key and task.
func isFinal(err error) bool {
	switch status.Code(err) {
	case codes.Unauthenticated, codes.PermissionDenied, codes.InvalidArgument, codes.Unimplemented:
		return true
	}
	return false
}

func mayRetry(err error) bool {
	return status.Code(err) == codes.Unavailable || errorInfo(err) == nil
}

type workLoop struct {
	connection *grpc.ClientConn
	serve      func(run *runContext) (interface{}, error)
	hello      *continuo.WorkerHello
	lock       sync.Mutex // of what follows, and of what is said: nothing falls between two connections
	stream     continuo.WorkerService_WorkClient
	held       map[string]*held
}

func (w *workLoop) work() error {
	for {
		err := w.connect()
		if isFinal(err) {
			return err
		}
		report("lost", fields{"code": status.Code(err)})
		time.Sleep(pause)
	}
}

// One stream, until it ends. Says what is still held: the server renews the leases that live on, and revokes the others.
func (w *workLoop) connect() error {
	ctx, cancel := context.WithCancel(bearer(context.Background(), key))
	defer cancel()
	stream, err := continuo.NewWorkerServiceClient(w.connection).Work(ctx)
	if err != nil {
		return err
	}
	w.lock.Lock()
	w.stream = stream
	w.hello.HeldLeases = w.leases()
	w.send(&continuo.WorkRequest{Message: &continuo.WorkRequest_Hello{Hello: w.hello}})
	for _, held := range w.held {
		if held.said != nil {
			w.send(held.said)
		}
	}
	w.lock.Unlock()
	for {
		message, err := stream.Recv()
		if err != nil {
			return err
		}
		w.take(ctx, message)
	}
}

func (w *workLoop) leases() (leases []*continuo.LeaseRef) {
	for _, held := range w.held {
		leases = append(leases, held.lease)
	}
	return leases
}

// What cannot be sent any more is told by Recv.
func (w *workLoop) send(message *continuo.WorkRequest) { _ = w.stream.Send(message) }

func (w *workLoop) tell(held *held, message *continuo.WorkRequest) {
	w.lock.Lock()
	defer w.lock.Unlock()
	held.said = message
	w.send(message)
}

func (w *workLoop) take(ctx context.Context, message *continuo.WorkResponse) {
	w.lock.Lock()
	defer w.lock.Unlock()
	switch message := message.Message.(type) {
	case *continuo.WorkResponse_Welcome:
		go w.beat(ctx, time.Duration(message.Welcome.HeartbeatMs)*time.Millisecond)
	case *continuo.WorkResponse_Assignment:
		assignment := message.Assignment
		lease := &continuo.LeaseRef{RunId: assignment.Run.Id, Lease: assignment.Lease}
		held := &held{lock: &w.lock, lease: lease, name: nameOf(lease), token: assignment.RunToken}
		w.held[held.name] = held
		go w.attempt(held, assignment)
	case *continuo.WorkResponse_Renewed:
		for _, renewed := range message.Renewed.Leases {
			if held := w.held[nameOf(renewed.Lease)]; held != nil {
				held.token = renewed.RunToken
			}
		}
	case *continuo.WorkResponse_Revoked:
		if held := w.held[nameOf(message.Revoked.Lease)]; held != nil {
			held.isOver = true
			delete(w.held, held.name)
		}
	}
}

func (w *workLoop) beat(ctx context.Context, period time.Duration) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			w.lock.Lock()
			heartbeat := &continuo.WorkerHeartbeat{Leases: w.leases()}
			w.send(&continuo.WorkRequest{Message: &continuo.WorkRequest_Heartbeat{Heartbeat: heartbeat}})
			w.lock.Unlock()
		}
	}
}

// One lease of a run, from its assignment to its end.
func (w *workLoop) attempt(held *held, assignment *continuo.Assignment) {
	run := newRunContext(w.connection, held, assignment)
	if !run.isResumed {
		started := &continuo.AttemptStarted{Lease: held.lease}
		w.tell(held, &continuo.WorkRequest{Message: &continuo.WorkRequest_Started{Started: started}})
	}
	output, err := w.serve(run)
	run.leave()
	text, unsayable := json.Marshal(output)
	if err == nil {
		err = unsayable
	}
	if err != nil {
		report("failed", fields{"run": run.id, "error": err.Error()})
		reason := &continuo.RunError{Name: status.Code(err).String(), Message: err.Error()}
		failed := &continuo.AttemptFailed{Lease: held.lease, Error: reason}
		w.tell(held, &continuo.WorkRequest{Message: &continuo.WorkRequest_Failed{Failed: failed}})
	} else if output == nil {
		suspended := &continuo.AttemptSuspended{Lease: held.lease}
		w.tell(held, &continuo.WorkRequest{Message: &continuo.WorkRequest_Suspended{Suspended: suspended}})
	} else {
		output := string(text)
		completed := &continuo.AttemptCompleted{Lease: held.lease, Output: &output}
		w.tell(held, &continuo.WorkRequest{Message: &continuo.WorkRequest_Completed{Completed: completed}})
	}
}

// A lease of a run, from its assignment until the server revokes it; it does so too when it knows of the run's end.
type held struct {
	lock   *sync.Mutex // of the loop
	lease  *continuo.LeaseRef
	name   string
	token  string                // the newest one
	said   *continuo.WorkRequest // the newest report
	isOver bool
}

// Repeats what a broken network leaves open, with the newest token, until it is answered or the lease is over.
func (h *held) persist(call func(context.Context) error) error {
	for {
		h.lock.Lock()
		isOver, token := h.isOver, h.token
		h.lock.Unlock()
		if isOver {
			return errors.New("the lease is over")
		}
		if err := call(bearer(context.Background(), token)); err == nil || !mayRetry(err) {
			return err
		}
		time.Sleep(pause)
	}
}

// What a run is served with. What it appends goes to `.out` of its session, and it reads `.in`. After a break it reads on where
// it was, and appends again what was not acknowledged, under the same part ids, so that it counts once.
type runContext struct {
	*held
	channels             continuo.ChannelServiceClient
	runs                 continuo.RunServiceClient
	sessions             continuo.SessionServiceClient
	id, payload, session string
	isResumed            bool
	inSeqNum             uint64 // where reading begins
	nextSeqNum           uint64 // where it has come to
	inbox                []*continuo.Record
	parts                int
	unacknowledged       []*continuo.ChannelAppend
	stream               continuo.ChannelService_AttachClient
	cancel               context.CancelFunc
}

func newRunContext(connection *grpc.ClientConn, held *held, assignment *continuo.Assignment) *runContext {
	return &runContext{
		held:     held,
		channels: continuo.NewChannelServiceClient(connection),
		runs:     continuo.NewRunServiceClient(connection),
		sessions: continuo.NewSessionServiceClient(connection),
		id:       assignment.Run.Id, payload: assignment.Run.Payload, session: assignment.Session.GetId(),
		isResumed: assignment.ResumedBy != nil,
		inSeqNum:  assignment.InSeqNum, nextSeqNum: assignment.InSeqNum,
	}
}

// The next message, or nothing once there was none for a while.
func (r *runContext) next() (*continuo.Record, error) {
	for len(r.inbox) == 0 {
		message, err := r.take()
		if err != nil || message.GetHeartbeat() != nil {
			return nil, err
		}
	}
	record := r.inbox[0]
	r.inbox = r.inbox[1:]
	return record, nil
}

func (r *runContext) append(record *continuo.NewRecord) {
	r.parts++
	partID := fmt.Sprint(r.name, ".", r.parts)
	said := &continuo.ChannelAppend{Records: []*continuo.NewRecord{record}, PartId: &partID}
	r.unacknowledged = append(r.unacknowledged, said)
	r.send(&continuo.AttachRequest{Message: &continuo.AttachRequest_Append{Append: said}})
}

// The end of a turn. It also tells the server how far `.in` was read, so that nothing is answered twice.
func (r *runContext) turnComplete(inSeqNum uint64) {
	r.append(&continuo.NewRecord{Headers: []*continuo.Header{
		{Name: []byte("trigger-control"), Value: []byte("turn-complete")},
		{Name: []byte("session-in-event-id"), Value: []byte(strconv.FormatUint(inSeqNum, 10))},
	}})
}

// Until everything appended is durable.
func (r *runContext) flush() error {
	for len(r.unacknowledged) > 0 {
		if _, err := r.take(); err != nil {
			return err
		}
	}
	return nil
}

// Gives the place back until there is input; false if there is some already.
func (r *runContext) waitForInput(nextSeqNum uint64) (bool, error) {
	// A repeat after a lost answer finds the same waitpoint.
	idempotencyKey := fmt.Sprint(r.name, ".", nextSeqNum)
	wait := &continuo.WaitOnChannelRequest{
		RunId: r.id, Session: r.session, Direction: continuo.Direction_DIRECTION_IN, IdempotencyKey: &idempotencyKey,
	}
	if nextSeqNum > 0 {
		last := nextSeqNum - 1
		wait.LastSeqNum = &last
	}
	var waitpoint *continuo.Waitpoint
	err := r.persist(func(ctx context.Context) error {
		answer, err := r.runs.WaitOnChannel(ctx, wait)
		waitpoint = answer.GetWaitpoint()
		return err
	})
	if err != nil || waitpoint.CompletedAt != nil {
		return false, err
	}
	suspend := &continuo.SuspendOnWaitpointRequest{RunId: r.id, WaitpointId: waitpoint.Id, Lease: &r.lease.Lease}
	err = r.persist(func(ctx context.Context) error {
		_, err := r.runs.SuspendOnWaitpoint(ctx, suspend)
		return err
	})
	return err == nil, err
}

// Hands the session over to a new run; its id.
func (r *runContext) endAndContinue(reason string) (next string, err error) {
	request := &continuo.EndAndContinueRequest{Session: r.session, CallingRunId: r.id, Reason: reason}
	err = r.persist(func(ctx context.Context) error {
		swapped, err := r.sessions.EndAndContinue(ctx, request)
		next = swapped.GetRunId()
		return err
	})
	return next, err
}

func (r *runContext) attach(ctx context.Context) (err error) {
	ctx, r.cancel = context.WithCancel(ctx)
	if r.stream, err = r.channels.Attach(ctx); err != nil {
		return err
	}
	start := &continuo.ReadStart{Start: &continuo.ReadStart_SeqNum{SeqNum: r.nextSeqNum}}
	open := &continuo.AttachOpen{Session: r.session, Start: start, HeartbeatMs: idleMs}
	r.send(&continuo.AttachRequest{Message: &continuo.AttachRequest_Open{Open: open}})
	for _, said := range r.unacknowledged {
		r.send(&continuo.AttachRequest{Message: &continuo.AttachRequest_Append{Append: said}})
	}
	return nil
}

// What cannot be sent any more is told by Recv.
func (r *runContext) send(message *continuo.AttachRequest) {
	if r.stream != nil {
		_ = r.stream.Send(message)
	}
}

func (r *runContext) take() (message *continuo.AttachResponse, err error) {
	err = r.persist(func(ctx context.Context) (err error) {
		message, err = r.receive(ctx)
		return err
	})
	if message.GetAck() != nil {
		r.unacknowledged = r.unacknowledged[1:]
	}
	for _, record := range message.GetBatch().GetRecords() {
		r.nextSeqNum = record.SeqNum + 1
		// A record with one header without a name is a command of the log itself.
		if len(record.Headers) != 1 || len(record.Headers[0].Name) > 0 {
			r.inbox = append(r.inbox, record)
		}
	}
	return message, err
}

func (r *runContext) receive(ctx context.Context) (message *continuo.AttachResponse, err error) {
	if r.stream == nil {
		err = r.attach(ctx)
	}
	if err == nil {
		message, err = r.stream.Recv()
	}
	if err != nil {
		r.leave()
	}
	return message, err
}

func (r *runContext) leave() {
	if r.cancel != nil {
		r.cancel()
	}
	r.stream, r.cancel = nil, nil
}

func nameOf(lease *continuo.LeaseRef) string { return fmt.Sprint(lease.RunId, ".", lease.Lease) }

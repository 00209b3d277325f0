# The loop that a worker stands on, to be copied as it is: `work(task) { |run| … }` takes the runs of a task, and calls the block
# for each, in a thread of its own.
#
# It promises that a worker comes back when the network breaks or the server restarts, under its name and with the leases that it
# holds, and that what was said of a run is said again until the server knows. A run attaches again where it was, and appends again
# what was not acknowledged, so that it counts once. Once its lease is over, what it asks for next raises an error. Only what no
# other try would change ends the loop, and is raised: a key or a task that is refused.
require "json"
require "securerandom"
require "google/protobuf/well_known_types"
require "google/rpc/error_details_pb"
require "continuo/v1/channel_service_services_pb"
require "continuo/v1/run_service_services_pb"
require "continuo/v1/session_service_services_pb"
require "continuo/v1/worker_service_services_pb"

include Continuo::V1

KEY = ENV.fetch("CONTINUO_SECRET_KEY")
TARGET = [ENV.fetch("CONTINUO_URL").delete_prefix("http://"), :this_channel_is_insecure].freeze
# Pings find out that a connection is dead, and a server that was away is tried again before the leases end.
OPTIONS = { channel_args: { "grpc.keepalive_time_ms" => 10_000, "grpc.max_reconnect_backoff_ms" => 1_000 } }.freeze
WORKERS = WorkerService::Stub.new(*TARGET, **OPTIONS)
CHANNELS = ChannelService::Stub.new(*TARGET, **OPTIONS)
RUNS = RunService::Stub.new(*TARGET, **OPTIONS)
SESSIONS = SessionService::Stub.new(*TARGET, **OPTIONS)
IDLE_MS = 1000
PAUSE_S = 0.1
# With these there is no point in coming back with the same key and task.
FINAL = [GRPC::Unauthenticated, GRPC::PermissionDenied, GRPC::InvalidArgument, GRPC::Unimplemented].freeze

Thread.abort_on_exception = true

# Calls the block for a fresh run, and again whenever a run that waited goes on. What it returns, anything that JSON can say, is the
# run's output; nothing means that the run was suspended. What it raises fails the attempt.
def work(task, &serve)
  WorkLoop.new(task, serve).work
end

def report(event, **fields)
  $stdout.puts JSON.generate(event: event, **fields)
  $stdout.flush
end

def bearer(token)
  { "authorization" => "Bearer #{token}" }
end

# The reason that the server gave; without one it was the network.
def error_info(error)
  details = error.to_rpc_status&.details || []
  details.find { |detail| detail.is(Google::Rpc::ErrorInfo) }&.unpack(Google::Rpc::ErrorInfo)
end

def may_retry?(error)
  error.code == GRPC::Core::StatusCodes::UNAVAILABLE || error_info(error).nil?
end

# What is put into the queue is sent, until it is closed.
def messages(queue)
  Enumerator.new { |out| while (message = queue.pop) do out << message end }
end

def name_of(lease)
  "#{lease.run_id}.#{lease.lease}"
end

class WorkLoop
  def initialize(task, serve)
    @serve = serve
    @hello = { worker_id: SecureRandom.uuid, task_identifiers: [task], capacity: 10 }
    @outgoing = Queue.new
    @held = {} # by name
    @lock = Mutex.new # of what is said: nothing falls between two connections
  end

  def work
    loop do
      begin
        WORKERS.work(messages(connect), metadata: bearer(KEY)) { |message| take(message) }
      rescue *FINAL
        raise
      rescue GRPC::BadStatus => error
        report("lost", code: error.code)
      end
      @lock.synchronize { @outgoing.close }
      sleep PAUSE_S
    end
  end

  # Says what is still held: the server renews the leases that live on, and revokes the others.
  def connect
    @lock.synchronize do
      @outgoing = Queue.new
      send(hello: WorkerHello.new(**@hello, held_leases: @held.values.map(&:lease)))
      @held.each_value { |held| send(**held.said) if held.said }
      @outgoing
    end
  end

  # What is said while there is no connection is said by the next one.
  def send(**message)
    @outgoing << WorkRequest.new(**message) unless @outgoing.closed?
  end

  def tell(held, **message)
    @lock.synchronize do
      held.said = message
      send(**message)
    end
  end

  def take(message)
    case message.message
    when :welcome
      outgoing = @outgoing
      Thread.new { beat(outgoing, message.welcome.heartbeat_ms / 1000.0) }
    when :assignment
      held = Held.new(message.assignment)
      @lock.synchronize { @held[held.name] = held }
      Thread.new { attempt(held) }
    when :renewed
      message.renewed.leases.each { |renewed| @held[name_of(renewed.lease)]&.token = renewed.run_token }
    when :revoked
      @lock.synchronize { @held.delete(name_of(message.revoked.lease)) }&.is_over = true
    end
  end

  def beat(outgoing, seconds)
    until outgoing.closed?
      @lock.synchronize { send(heartbeat: WorkerHeartbeat.new(leases: @held.values.map(&:lease))) }
      sleep seconds
    end
  end

  # One lease of a run, from its assignment to its end.
  def attempt(held)
    lease = held.lease
    tell(held, started: AttemptStarted.new(lease: lease)) unless held.assignment.resumed_by
    run = RunContext.new(held)
    begin
      output = @serve.call(run)
    ensure
      run.leave
    end
    if output.nil?
      tell(held, suspended: AttemptSuspended.new(lease: lease))
    else
      tell(held, completed: AttemptCompleted.new(lease: lease, output: JSON.generate(output)))
    end
  rescue StandardError => error
    report("failed", run: lease.run_id, error: error.message)
    tell(held, failed: AttemptFailed.new(lease: lease, error: RunError.new(name: error.class.name, message: error.message)))
  end
end

# A lease of a run, from its assignment until the server revokes it; it does so too when it knows of the run's end.
class Held
  attr_reader :assignment, :lease, :name
  attr_accessor :token, :said, :is_over

  def initialize(assignment)
    @assignment, @token = assignment, assignment.run_token
    @lease = LeaseRef.new(run_id: assignment.run.id, lease: assignment.lease)
    @name = name_of(@lease)
    @said = nil # the newest report
    @is_over = false
  end

  # A call with the newest token of the run, if no other is given.
  def ask(method, request, token: nil)
    persist { method.call(request, metadata: bearer(token || @token)) }
  end

  # Repeats what a broken network leaves open, until it is answered or the lease is over.
  def persist
    until @is_over
      begin
        return yield
      rescue GRPC::BadStatus => error
        raise unless may_retry?(error)
        sleep PAUSE_S
      end
    end
    raise "the lease is over"
  end
end

# What a run is served with. What it appends goes to `.out` of its session, and it reads `.in`. After a break it reads on where it
# was, and appends again what was not acknowledged, under the same part ids, so that it counts once.
class RunContext
  attr_reader :id, :payload, :session, :in_seq_num

  def initialize(held)
    @held, @id, @payload, @session = held, held.lease.run_id, held.assignment.run.payload, held.assignment.session.id
    # Where reading begins, and where it has come to.
    @in_seq_num = @next_seq_num = held.assignment.in_seq_num
    @inbox, @parts, @unacknowledged = [], 0, []
    @outgoing, @call = Queue.new, nil
  end

  def resumed?
    !@held.assignment.resumed_by.nil?
  end

  def ask(...)
    @held.ask(...)
  end

  # The next message, or nothing once there was none for a while.
  def next
    while @inbox.empty?
      return nil if take.heartbeat
    end
    @inbox.shift
  end

  def append(record)
    @parts += 1
    @unacknowledged << ChannelAppend.new(records: [record], part_id: "#{@held.name}.#{@parts}")
    send(append: @unacknowledged.last)
  end

  # The end of a turn. It also tells the server how far `.in` was read, so that nothing is answered twice.
  def turn_complete(in_seq_num)
    pairs = { "trigger-control" => "turn-complete", "session-in-event-id" => in_seq_num.to_s }
    append(NewRecord.new(headers: pairs.map { |name, value| Header.new(name: name, value: value) }))
  end

  # Until everything appended is durable.
  def flush
    take until @unacknowledged.empty?
  end

  # Gives the place back until there is input; false if there is some already.
  def wait_for_input?(next_seq_num)
    wait = WaitOnChannelRequest.new(run_id: @id, session: @session, direction: :DIRECTION_IN)
    wait.last_seq_num = next_seq_num - 1 if next_seq_num > 0
    # A repeat after a lost answer finds the same waitpoint.
    wait.idempotency_key = "#{@held.name}.#{next_seq_num}"
    waitpoint = ask(RUNS.method(:wait_on_channel), wait).waitpoint
    return false if waitpoint.completed_at
    suspend = SuspendOnWaitpointRequest.new(run_id: @id, waitpoint_id: waitpoint.id, lease: @held.lease.lease)
    ask(RUNS.method(:suspend_on_waitpoint), suspend)
    true
  end

  # Hands the session over to a new run; its id.
  def end_and_continue(reason)
    request = EndAndContinueRequest.new(session: @session, calling_run_id: @id, reason: reason)
    ask(SESSIONS.method(:end_and_continue), request).run_id
  end

  def attach
    @outgoing = Queue.new
    start = ReadStart.new(seq_num: @next_seq_num)
    send(open: AttachOpen.new(session: @session, start: start, heartbeat_ms: IDLE_MS))
    @unacknowledged.each { |append| send(append: append) }
    @call = CHANNELS.attach(messages(@outgoing), metadata: bearer(@held.token), return_op: true)
    @incoming = @call.execute
  end

  def send(**message)
    @outgoing << AttachRequest.new(**message) unless @outgoing.closed?
  end

  def take
    message = @held.persist { receive }
    @unacknowledged.shift if message.ack
    message.batch&.records&.each do |record|
      @next_seq_num = record.seq_num + 1
      # A record with one header without a name is a command of the log itself.
      @inbox << record unless record.headers.size == 1 && record.headers[0].name.empty?
    end
    message
  end

  def receive
    attach unless @call
    @incoming.next
  rescue StopIteration # which would end a loop
    raise "the server ended the stream"
  rescue GRPC::BadStatus
    leave
    raise
  end

  def leave
    @outgoing.close
    @call&.cancel
    @call = nil
  end
end

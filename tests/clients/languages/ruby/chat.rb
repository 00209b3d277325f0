# A chat on a session: says each line of standard input and prints what happens, one JSON object a line.
#
#     ruby -I gen chat.rb my-chat my-task
#
# What a broken network leaves open is asked for again: the read goes on after the last number seen, and an append that was not
# acknowledged is repeated with its part id, so that it counts once.
require "json"
require "securerandom"
require "google/protobuf/well_known_types"
require "google/rpc/error_details_pb"
require "continuo/v1/channel_service_services_pb"
require "continuo/v1/session_service_services_pb"

include Continuo::V1

ADDRESS = ENV.fetch("CONTINUO_URL").delete_prefix("http://")

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

# Makes the session, or finds it; a token for it alone.
def create(session, task)
  request = CreateSessionRequest.new(
    external_id: session,
    type: "chat",
    task_identifier: task,
    trigger_config: TriggerConfig.new(base_payload_json: "{}"),
  )
  sessions = SessionService::Stub.new(ADDRESS, :this_channel_is_insecure)
  created = sessions.create_session(request, metadata: bearer(ENV.fetch("CONTINUO_SECRET_KEY")))
  report("created", session: created.session.id, run: created.run_id, cached: created.is_cached)
  created.public_access_token
end

class Chat
  def initialize(session, token)
    @channels = ChannelService::Stub.new(ADDRESS, :this_channel_is_insecure)
    @session, @token = session, token
    @next_seq_num = 0
  end

  def attach
    report("attached", start: @next_seq_num)
    @outgoing = Queue.new
    start = ReadStart.new(seq_num: @next_seq_num)
    send(open: AttachOpen.new(session: @session, start: start))
    requests = Enumerator.new { |out| while (message = @outgoing.pop) do out << message end }
    @incoming = @channels.attach(requests, metadata: bearer(@token))
  end

  def send(**message)
    @outgoing << AttachRequest.new(**message)
  end

  # Says it, and reads on until the turn that answers it is complete.
  def ask(text)
    append = ChannelAppend.new(records: [NewRecord.new(body: text.b)], part_id: SecureRandom.uuid)
    asked, answered = nil, -1
    is_over = -> { asked && answered >= asked }
    until is_over.call
      begin
        attach unless @incoming
        send(append: append) unless asked
        until is_over.call
          message = @incoming.next
          if message.ack
            asked = message.ack.start.seq_num
            report("acknowledged", seq: asked, repeated: message.ack.repeated)
          end
          message.batch&.records&.each { |record| answered = read(record) || answered }
        end
      rescue GRPC::BadStatus => error
        @incoming = nil
        @outgoing.close
        raise unless may_retry?(error)
        report("lost", code: error.code)
        sleep 0.1
      end
    end
    report("answered")
  end

  # The number of the message that the turn answered, if the record completes a turn.
  def read(record)
    @next_seq_num = record.seq_num + 1
    headers = record.headers.to_h { |header| [header.name, header.value] }
    # A control record says what happened, and a record with one header without a name is a command of the log itself.
    control = headers["trigger-control"] || headers[""]
    report("record", seq: record.seq_num, text: record.body.dup.force_encoding("UTF-8"), control: control)
    headers["session-in-event-id"]&.to_i
  end
end

begin
  session, task = ARGV
  chat = Chat.new(session, create(session, task))
  $stdin.each_line(chomp: true) { |line| chat.ask(line) }
rescue GRPC::BadStatus => error
  info = error_info(error)
  report("refused", code: error.code, reason: info&.reason, metadata: info&.metadata.to_h)
  exit 1
end

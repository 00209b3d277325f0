//! The services of another process, as the server traits: what the gateway stands on when it runs by itself.

use continuo_proto::v1::admin_service_client::AdminServiceClient;
use continuo_proto::v1::admin_service_server::AdminService;
use continuo_proto::v1::blob_service_client::BlobServiceClient;
use continuo_proto::v1::blob_service_server::BlobService;
use continuo_proto::v1::channel_service_client::ChannelServiceClient;
use continuo_proto::v1::channel_service_server::ChannelService;
use continuo_proto::v1::run_service_client::RunServiceClient;
use continuo_proto::v1::run_service_server::RunService;
use continuo_proto::v1::session_service_client::SessionServiceClient;
use continuo_proto::v1::session_service_server::SessionService;
use continuo_proto::v1::token_service_client::TokenServiceClient;
use continuo_proto::v1::token_service_server::TokenService;
use continuo_proto::v1::*;
use continuo_proto::with_tls;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

/// Clients of one upstream, on one connection that comes back by itself.
#[derive(Clone, Debug)]
pub struct Upstream {
    sessions: SessionServiceClient<Channel>,
    channels: ChannelServiceClient<Channel>,
    runs: RunServiceClient<Channel>,
    tokens: TokenServiceClient<Channel>,
    blobs: BlobServiceClient<Channel>,
    admin: AdminServiceClient<Channel>,
}

impl Upstream {
    /// Clients of the server at this URL, whose certificate may be signed by an authority in `ca_pem`. Connects with the
    /// first call.
    pub fn new(url: String, ca_pem: Option<&str>, message_bytes_max: usize) -> Result<Self, tonic::transport::Error> {
        let channel = with_tls(Endpoint::from_shared(url)?, ca_pem)?.tcp_nodelay(true).connect_lazy();
        Ok(Self {
            sessions: SessionServiceClient::new(channel.clone()).max_decoding_message_size(message_bytes_max),
            channels: ChannelServiceClient::new(channel.clone()).max_decoding_message_size(message_bytes_max),
            runs: RunServiceClient::new(channel.clone()).max_decoding_message_size(message_bytes_max),
            tokens: TokenServiceClient::new(channel.clone()).max_decoding_message_size(message_bytes_max),
            blobs: BlobServiceClient::new(channel.clone()).max_decoding_message_size(message_bytes_max),
            admin: AdminServiceClient::new(channel).max_decoding_message_size(message_bytes_max),
        })
    }
}

macro_rules! forward {
    ($service:ident by $field:ident { $($rpc:ident($request:ty) -> $response:ty;)* } $($more:tt)*) => {
        #[tonic::async_trait]
        impl $service for Upstream {
            $(async fn $rpc(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                self.$field.clone().$rpc(request).await
            })*
            $($more)*
        }
    };
}

forward!(SessionService by sessions {
    create_session(CreateSessionRequest) -> CreateSessionResponse;
    get_session(GetSessionRequest) -> GetSessionResponse;
    list_sessions(ListSessionsRequest) -> ListSessionsResponse;
    count_sessions(CountSessionsRequest) -> CountSessionsResponse;
    list_session_tags(ListSessionTagsRequest) -> ListSessionTagsResponse;
    update_session(UpdateSessionRequest) -> UpdateSessionResponse;
    close_session(CloseSessionRequest) -> CloseSessionResponse;
    delete_session(DeleteSessionRequest) -> DeleteSessionResponse;
    end_and_continue(EndAndContinueRequest) -> EndAndContinueResponse;
    list_session_runs(ListSessionRunsRequest) -> ListSessionRunsResponse;
    get_transcript(GetTranscriptRequest) -> GetTranscriptResponse;
});

forward!(RunService by runs {
    trigger_run(TriggerRunRequest) -> TriggerRunResponse;
    get_run(GetRunRequest) -> GetRunResponse;
    list_runs(ListRunsRequest) -> ListRunsResponse;
    list_queues(ListQueuesRequest) -> ListQueuesResponse;
    cancel_run(CancelRunRequest) -> CancelRunResponse;
    reschedule_run(RescheduleRunRequest) -> RescheduleRunResponse;
    update_run_metadata(UpdateRunMetadataRequest) -> UpdateRunMetadataResponse;
    add_run_tags(AddRunTagsRequest) -> AddRunTagsResponse;
    wait_on_channel(WaitOnChannelRequest) -> WaitOnChannelResponse;
    wait_for_duration(WaitForDurationRequest) -> WaitForDurationResponse;
    suspend_on_waitpoint(SuspendOnWaitpointRequest) -> SuspendOnWaitpointResponse;
    create_waitpoint(CreateWaitpointRequest) -> CreateWaitpointResponse;
    get_waitpoint(GetWaitpointRequest) -> GetWaitpointResponse;
    list_waitpoints(ListWaitpointsRequest) -> ListWaitpointsResponse;
    complete_waitpoint(CompleteWaitpointRequest) -> CompleteWaitpointResponse;
});

forward!(TokenService by tokens {
    authenticate(AuthenticateRequest) -> AuthenticateResponse;
    create_public_token(CreatePublicTokenRequest) -> CreatePublicTokenResponse;
    get_claims(GetClaimsRequest) -> GetClaimsResponse;
    revoke_tokens(RevokeTokensRequest) -> RevokeTokensResponse;
});

forward!(AdminService by admin {
    list_environments(ListEnvironmentsRequest) -> ListEnvironmentsResponse;
    create_environment(CreateEnvironmentRequest) -> CreateEnvironmentResponse;
    rotate_root_key(RotateRootKeyRequest) -> RotateRootKeyResponse;
    create_api_key(CreateApiKeyRequest) -> CreateApiKeyResponse;
    list_api_keys(ListApiKeysRequest) -> ListApiKeysResponse;
    revoke_api_key(RevokeApiKeyRequest) -> RevokeApiKeyResponse;
    create_environment_token(CreateEnvironmentTokenRequest) -> CreateEnvironmentTokenResponse;
});

forward!(ChannelService by channels {
    initialize_channel(InitializeChannelRequest) -> InitializeChannelResponse;
    append(AppendRequest) -> AppendResponse;
    list_channels(ListChannelsRequest) -> ListChannelsResponse;
    check_tail(CheckTailRequest) -> CheckTailResponse;
    trim(TrimRequest) -> TrimResponse;
}
    type ReadStream = Streaming<ReadResponse>;
    type ListRecordsStream = Streaming<ListRecordsResponse>;
    type ProduceStream = Streaming<ProduceResponse>;
    type AttachStream = Streaming<AttachResponse>;

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        self.channels.clone().read(request).await
    }

    async fn list_records(&self, request: Request<ListRecordsRequest>) -> Result<Response<Self::ListRecordsStream>, Status> {
        self.channels.clone().list_records(request).await
    }

    async fn produce(&self, request: Request<Streaming<ProduceRequest>>) -> Result<Response<Self::ProduceStream>, Status> {
        self.channels.clone().produce(until_error(request)).await
    }

    async fn attach(&self, request: Request<Streaming<AttachRequest>>) -> Result<Response<Self::AttachStream>, Status> {
        self.channels.clone().attach(until_error(request)).await
    }
);

forward!(BlobService by blobs {
    presign_put(PresignPutRequest) -> PresignPutResponse;
    presign_get(PresignGetRequest) -> PresignGetResponse;
}
    type GetBlobStream = Streaming<GetBlobResponse>;

    // A blob that was cut ends here without its last part, and is refused upstream for that.
    async fn put_blob(&self, request: Request<Streaming<PutBlobRequest>>) -> Result<Response<PutBlobResponse>, Status> {
        self.blobs.clone().put_blob(until_error(request)).await
    }

    async fn get_blob(&self, request: Request<GetBlobRequest>) -> Result<Response<Self::GetBlobStream>, Status> {
        self.blobs.clone().get_blob(request).await
    }
);

/// A client that goes away ends the stream upstream as well.
fn until_error<T: Send + 'static>(
    request: Request<Streaming<T>>,
) -> Request<impl futures_util::Stream<Item = T> + Send> {
    request.map(|messages| tokio_stream::StreamExt::map_while(messages, Result::ok))
}

//! The services as the gateway's tests need them: every call is recorded, every answer prepared.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex},
};

use continuo_proto::v1::{
    admin_service_server::AdminService, blob_service_server::BlobService, channel_service_server::ChannelService,
    run_service_server::RunService, session_service_server::SessionService, token_service_server::TokenService, *,
};
use futures_util::{Stream, StreamExt, stream};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Shared by all clones.
#[derive(Clone, Default)]
pub(crate) struct Peer(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    calls: Vec<(Box<dyn Any + Send>, String)>,
    answers: HashMap<TypeId, Box<dyn Any + Send>>,
    refusal: Option<Status>,
    /// Of a stream of appends, the number from which on they are refused.
    refuse_from: u64,
    /// Of a stream of appends, the number from which on nothing is taken any more.
    hold_from: Option<u64>,
    /// What a stream of appends ends with, whatever is sent on it.
    end_of_appends: Option<Status>,
    refuse_authentication: Option<Status>,
    reads: Vec<Result<ReadResponse, Status>>,
    reads_stay_open: bool,
    settled: bool,
    records: Vec<Result<ListRecordsResponse, Status>>,
    blob: Vec<Result<GetBlobResponse, Status>>,
}

impl Peer {
    /// A peer whose callers hold this kind of credential.
    pub(crate) fn with(kind: CredentialKind) -> Self {
        let peer = Self::default();
        peer.answer(AuthenticateResponse { kind: kind.into(), environment_id: "env_1".into(), ..Default::default() });
        peer
    }

    /// A peer whose callers hold the root key.
    pub(crate) fn key() -> Self {
        Self::with(CredentialKind::RootKey)
    }

    /// A peer whose callers hold a public token.
    pub(crate) fn public() -> Self {
        Self::with(CredentialKind::PublicToken)
    }

    /// Prepares the answer of this type.
    pub(crate) fn answer<T: Send + 'static>(&self, answer: T) -> &Self {
        self.0.lock().unwrap().answers.insert(TypeId::of::<T>(), Box::new(answer));
        self
    }

    /// Refuses every call but authentication.
    pub(crate) fn refuse(&self, status: Status) -> &Self {
        self.0.lock().unwrap().refusal = Some(status);
        self
    }

    /// Refuses the append of a stream that would get this number.
    pub(crate) fn refuse_from(&self, seq_num: u64, status: Status) -> &Self {
        self.0.lock().unwrap().refuse_from = seq_num;
        self.refuse(status)
    }

    /// Takes no append of a stream that would get this number: a log that is slow.
    pub(crate) fn hold_from(&self, seq_num: u64) -> &Self {
        self.0.lock().unwrap().hold_from = Some(seq_num);
        self
    }

    /// Streams of appends end at once.
    pub(crate) fn end_appends(&self, status: Status) -> &Self {
        self.0.lock().unwrap().end_of_appends = Some(status);
        self
    }

    pub(crate) fn refuse_authentication(&self, status: Status) -> &Self {
        self.0.lock().unwrap().refuse_authentication = Some(status);
        self
    }

    pub(crate) fn reads(&self, events: Vec<Result<ReadResponse, Status>>, settled: bool) -> &Self {
        let mut inner = self.0.lock().unwrap();
        (inner.reads, inner.settled) = (events, settled);
        drop(inner);
        self
    }

    pub(crate) fn reads_stay_open(&self) -> &Self {
        self.0.lock().unwrap().reads_stay_open = true;
        self
    }

    pub(crate) fn records(&self, batches: Vec<Result<ListRecordsResponse, Status>>) -> &Self {
        self.0.lock().unwrap().records = batches;
        self
    }

    pub(crate) fn blob(&self, parts: Vec<Result<GetBlobResponse, Status>>) -> &Self {
        self.0.lock().unwrap().blob = parts;
        self
    }

    /// The one call of this type.
    pub(crate) fn the<T: Clone + 'static>(&self) -> T {
        let calls = self.all::<T>();
        assert_eq!(calls.len(), 1, "calls of {}", std::any::type_name::<T>());
        calls.into_iter().next().unwrap()
    }

    pub(crate) fn all<T: Clone + 'static>(&self) -> Vec<T> {
        let inner = self.0.lock().unwrap();
        inner.calls.iter().filter_map(|(call, _)| call.downcast_ref::<T>().cloned()).collect()
    }

    /// The authorization of every call so far.
    pub(crate) fn authorizations(&self) -> Vec<String> {
        self.0.lock().unwrap().calls.iter().map(|(_, authorization)| authorization.clone()).collect()
    }

    fn record<Req: Clone + Send + 'static>(&self, request: Request<Req>) {
        let authorization = bearer_alone(&request);
        self.0.lock().unwrap().calls.push((Box::new(request.into_inner()), authorization));
    }

    fn handle<Req, Res>(&self, request: Request<Req>) -> Result<Response<Res>, Status>
    where
        Req: Clone + Send + 'static,
        Res: Clone + Default + 'static,
    {
        self.record(request);
        let inner = self.0.lock().unwrap();
        match &inner.refusal {
            Some(status) => Err(status.clone()),
            None => {
                let answer = inner.answers.get(&TypeId::of::<Res>()).and_then(|answer| answer.downcast_ref::<Res>());
                Ok(Response::new(answer.cloned().unwrap_or_default()))
            }
        }
    }
}

/// The token of a call, which is all that travels with it.
fn bearer_alone<T>(request: &Request<T>) -> String {
    let names: Vec<String> = request.metadata().keys().map(|key| format!("{key:?}")).collect();
    assert_eq!(names.len(), 1, "nothing but the token travels: {names:?}");
    assert!(request.extensions().is_empty());
    request.metadata().get("authorization").map_or(String::new(), |v| v.to_str().unwrap().to_owned())
}

/// A status as the services make it.
pub(crate) fn status(reason: &str, code: Code, message: &str, metadata: &[(&str, &str)]) -> Status {
    Status::with_error_details(code, message, details(reason, metadata))
}

pub(crate) fn details(reason: &str, metadata: &[(&str, &str)]) -> ErrorDetails {
    let metadata: HashMap<String, String> = metadata.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    ErrorDetails::with_error_info(reason, "continuo", metadata)
}

/// INVALID_ARGUMENT with violations.
pub(crate) fn violations(fields: &[(&str, &str)]) -> Status {
    let mut details = details("INVALID_ARGUMENT", &[]);
    details.set_bad_request(fields.iter().map(|(f, d)| FieldViolation::new(*f, *d)).collect::<Vec<_>>());
    Status::with_error_details(Code::InvalidArgument, "bad fields", details)
}

macro_rules! unary {
    ($($rpc:ident($request:ty) -> $response:ty;)*) => {
        $(fn $rpc<'life0, 'async_trait>(&'life0 self, request: Request<$request>)
            -> Pin<Box<dyn Future<Output = Result<Response<$response>, Status>> + Send + 'async_trait>>
        where 'life0: 'async_trait, Self: 'async_trait {
            Box::pin(async move { self.handle(request) })
        })*
    };
}

impl AdminService for Peer {
    unary! {
        list_environments(ListEnvironmentsRequest) -> ListEnvironmentsResponse;
        create_environment(CreateEnvironmentRequest) -> CreateEnvironmentResponse;
        rotate_root_key(RotateRootKeyRequest) -> RotateRootKeyResponse;
        create_api_key(CreateApiKeyRequest) -> CreateApiKeyResponse;
        list_api_keys(ListApiKeysRequest) -> ListApiKeysResponse;
        revoke_api_key(RevokeApiKeyRequest) -> RevokeApiKeyResponse;
        create_environment_token(CreateEnvironmentTokenRequest) -> CreateEnvironmentTokenResponse;
    }
}

impl SessionService for Peer {
    unary! {
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
    }
}

impl RunService for Peer {
    unary! {
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
    }
}

#[async_trait::async_trait]
impl TokenService for Peer {
    async fn authenticate(
        &self,
        request: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        self.record(request);
        let inner = self.0.lock().unwrap();
        if let Some(status) = &inner.refuse_authentication {
            return Err(status.clone());
        }
        let who = inner.answers.get(&TypeId::of::<AuthenticateResponse>()).unwrap();
        Ok(Response::new(who.downcast_ref::<AuthenticateResponse>().unwrap().clone()))
    }

    async fn create_public_token(
        &self,
        request: Request<CreatePublicTokenRequest>,
    ) -> Result<Response<CreatePublicTokenResponse>, Status> {
        self.handle(request)
    }

    async fn get_claims(&self, request: Request<GetClaimsRequest>) -> Result<Response<GetClaimsResponse>, Status> {
        self.handle(request)
    }

    async fn revoke_tokens(
        &self,
        request: Request<RevokeTokensRequest>,
    ) -> Result<Response<RevokeTokensResponse>, Status> {
        self.handle(request)
    }
}

#[async_trait::async_trait]
impl ChannelService for Peer {
    type ReadStream = Items<ReadResponse>;
    type ListRecordsStream = Items<ListRecordsResponse>;
    type ProduceStream = Items<ProduceResponse>;
    type AttachStream = Items<AttachResponse>;

    async fn initialize_channel(
        &self,
        request: Request<InitializeChannelRequest>,
    ) -> Result<Response<InitializeChannelResponse>, Status> {
        self.handle(request)
    }

    async fn append(&self, request: Request<AppendRequest>) -> Result<Response<AppendResponse>, Status> {
        self.handle(request)
    }

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        self.handle::<_, ()>(request)?;
        let inner = self.0.lock().unwrap();
        let events = stream::iter(inner.reads.clone());
        let events: Self::ReadStream =
            if inner.reads_stay_open { Box::pin(events.chain(stream::pending())) } else { Box::pin(events) };
        let mut response = Response::new(events);
        if inner.settled {
            response.metadata_mut().insert("continuo-settled", "true".parse().unwrap());
        }
        Ok(response)
    }

    async fn list_records(
        &self,
        request: Request<ListRecordsRequest>,
    ) -> Result<Response<Self::ListRecordsStream>, Status> {
        self.handle::<_, ()>(request)?;
        Ok(Response::new(Box::pin(stream::iter(self.0.lock().unwrap().records.clone()))))
    }

    async fn list_channels(
        &self,
        request: Request<ListChannelsRequest>,
    ) -> Result<Response<ListChannelsResponse>, Status> {
        self.handle(request)
    }

    async fn check_tail(&self, request: Request<CheckTailRequest>) -> Result<Response<CheckTailResponse>, Status> {
        self.handle(request)
    }

    async fn trim(&self, request: Request<TrimRequest>) -> Result<Response<TrimResponse>, Status> {
        self.handle(request)
    }

    /// Each message is recorded as a call, each append acknowledged with the next number, until one is to be refused or a
    /// message cannot be had.
    async fn produce(
        &self,
        request: Request<Streaming<ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStream>, Status> {
        let authorization = bearer_alone(&request);
        let (peer, incoming) = (self.clone(), request.into_inner());
        let acks = stream::try_unfold((incoming, 0), move |(mut incoming, seq_num)| {
            let (peer, authorization) = (peer.clone(), authorization.clone());
            async move {
                if let Some(status) = peer.0.lock().unwrap().end_of_appends.clone() {
                    return Err(status);
                }
                let holds = peer.0.lock().unwrap().hold_from.is_some_and(|from| seq_num >= from);
                if holds {
                    std::future::pending::<()>().await;
                }
                while let Some(message) = incoming.message().await? {
                    let mut inner = peer.0.lock().unwrap();
                    inner.calls.push((Box::new(message.clone()), authorization.clone()));
                    let Some(produce_request::Message::Append(append)) = message.message else { continue };
                    if let Some(status) = inner.refusal.clone().filter(|_| seq_num >= inner.refuse_from) {
                        return Err(status);
                    }
                    let after = seq_num + append.records.len() as u64;
                    let at = |seq_num| Some(Position { seq_num, timestamp_ms: 7 });
                    let ack = AppendResponse { start: at(seq_num), end: at(after), tail: at(after), repeated: false };
                    return Ok(Some((ProduceResponse { ack: Some(ack) }, (incoming, after))));
                }
                Ok(None)
            }
        });
        Ok(Response::new(Box::pin(acks)))
    }

    async fn attach(&self, _: Request<Streaming<AttachRequest>>) -> Result<Response<Self::AttachStream>, Status> {
        Err(Status::unimplemented("not a gateway's call"))
    }
}

#[async_trait::async_trait]
impl BlobService for Peer {
    type GetBlobStream = Items<GetBlobResponse>;

    async fn presign_put(&self, request: Request<PresignPutRequest>) -> Result<Response<PresignPutResponse>, Status> {
        self.handle(request)
    }

    async fn presign_get(&self, request: Request<PresignGetRequest>) -> Result<Response<PresignGetResponse>, Status> {
        self.handle(request)
    }

    /// Recorded as all its parts, up to an error if there is one. Refuses after the first part, as the services may.
    async fn put_blob(&self, request: Request<Streaming<PutBlobRequest>>) -> Result<Response<PutBlobResponse>, Status> {
        let authorization = bearer_alone(&request);
        let mut incoming = request.into_inner();
        let refusal = self.0.lock().unwrap().refusal.clone();
        let mut parts = Vec::new();
        let cut = loop {
            match incoming.message().await {
                Ok(Some(part)) => parts.push(part),
                Ok(None) => break None,
                Err(status) => break Some(status),
            }
            if refusal.is_some() {
                break refusal;
            }
        };
        self.0.lock().unwrap().calls.push((Box::new(parts), authorization));
        cut.map_or_else(|| Ok(Response::new(PutBlobResponse {})), Err)
    }

    async fn get_blob(&self, request: Request<GetBlobRequest>) -> Result<Response<Self::GetBlobStream>, Status> {
        self.handle::<_, ()>(request)?;
        Ok(Response::new(Box::pin(stream::iter(self.0.lock().unwrap().blob.clone()))))
    }
}

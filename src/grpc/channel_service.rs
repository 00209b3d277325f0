//! ChannelService.

mod attach;
mod produce;
pub(crate) mod pump;
mod read;

use crate::Services;
use crate::convert::channel as convert;
use crate::services::Answer;
use crate::status::of_error;
use crate::while_it_counts::while_it_counts;
use continuo_proto::v1;
use continuo_proto::v1::channel_service_server::ChannelService;
use tonic::{Request, Response, Status, Streaming};

#[tonic::async_trait]
impl ChannelService for Services {
    type ReadStream = Answer<v1::ReadResponse>;
    type ListRecordsStream = Answer<v1::ListRecordsResponse>;
    type ProduceStream = Answer<v1::ProduceResponse>;
    type AttachStream = Answer<v1::AttachResponse>;

    async fn initialize_channel(
        &self,
        request: Request<v1::InitializeChannelRequest>,
    ) -> Result<Response<v1::InitializeChannelResponse>, Status> {
        let caller = self.principal(&request).await?;
        let v1::InitializeChannelRequest { channel, max_age_seconds } = request.into_inner();
        let target = convert::parse_target(channel).map_err(of_error)?;
        let initialized = self.core.initialize_channel(&caller, &target, max_age_seconds).await.map_err(of_error)?;
        Ok(Response::new(convert::print_initialized(initialized)))
    }

    async fn append(&self, request: Request<v1::AppendRequest>) -> Result<Response<v1::AppendResponse>, Status> {
        let caller = self.principal(&request).await?;
        let append = convert::parse_append(request.into_inner()).map_err(of_error)?;
        let core = self.core.clone();
        let appended = self.to_the_end(async move { core.append(&caller, append).await }).await?;
        Ok(Response::new(convert::print_appended(appended)))
    }

    async fn read(&self, request: Request<v1::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let (caller, standing) = self.principal_of_stream(&request).await?;
        let answer = self.answer_read(caller, request.into_inner()).await?;
        Ok(answer.map(|events| while_it_counts(events, standing)))
    }

    async fn list_records(
        &self,
        request: Request<v1::ListRecordsRequest>,
    ) -> Result<Response<Self::ListRecordsStream>, Status> {
        let (caller, standing) = self.principal_of_stream(&request).await?;
        let answer = self.answer_list_records(caller, request.into_inner()).await?;
        Ok(answer.map(|pages| while_it_counts(pages, standing)))
    }

    async fn list_channels(
        &self,
        request: Request<v1::ListChannelsRequest>,
    ) -> Result<Response<v1::ListChannelsResponse>, Status> {
        let caller = self.principal(&request).await?;
        let list = convert::parse_list(&caller.environment, request.into_inner()).map_err(of_error)?;
        let page = self.core.list_channels(&caller, list).await.map_err(of_error)?;
        Ok(Response::new(convert::print_list(&caller.environment, page)))
    }

    async fn check_tail(
        &self,
        request: Request<v1::CheckTailRequest>,
    ) -> Result<Response<v1::CheckTailResponse>, Status> {
        let caller = self.principal(&request).await?;
        let target = convert::parse_target(request.into_inner().channel).map_err(of_error)?;
        let tail = self.core.check_tail(&caller, &target).await.map_err(of_error)?;
        let position = Some(convert::print_position(tail.position));
        Ok(Response::new(v1::CheckTailResponse { tail: position, earliest_seq_num: tail.earliest_seq_num }))
    }

    async fn trim(&self, request: Request<v1::TrimRequest>) -> Result<Response<v1::TrimResponse>, Status> {
        let caller = self.principal(&request).await?;
        let v1::TrimRequest { channel, before_seq_num } = request.into_inner();
        let target = convert::parse_target(channel).map_err(of_error)?;
        let core = self.core.clone();
        let position = self.to_the_end(async move { core.trim(&caller, target, before_seq_num).await }).await?;
        Ok(Response::new(v1::TrimResponse { position: Some(convert::print_position(position)) }))
    }

    async fn produce(
        &self,
        request: Request<Streaming<v1::ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStream>, Status> {
        let (caller, standing) = self.principal_of_stream(&request).await?;
        let acks = self.answer_produce(caller, request.into_inner(), standing.ended());
        Ok(Response::new(while_it_counts(acks, standing)))
    }

    async fn attach(
        &self,
        request: Request<Streaming<v1::AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (caller, standing) = self.principal_of_stream(&request).await?;
        let answer = self.answer_attach(caller, request.into_inner(), standing.ended());
        Ok(Response::new(while_it_counts(answer, standing)))
    }
}

//! RunService.

use crate::Services;
use crate::convert::{PAGE_SIZE_DEFAULT, page_size, page_token, run as convert, waitpoint};
use crate::status::of_error;
use continuo_proto::v1;
use continuo_proto::v1::run_service_server::RunService;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl RunService for Services {
    async fn trigger_run(
        &self,
        request: Request<v1::TriggerRunRequest>,
    ) -> Result<Response<v1::TriggerRunResponse>, Status> {
        let caller = self.principal(&request).await?;
        let run = convert::parse_trigger(request.into_inner(), &caller, self.core.new_run_id()).map_err(of_error)?;
        let core = self.core.clone();
        let (made, public_access_token) = self.to_the_end(async move { core.trigger_run(&caller, run).await }).await?;
        Ok(Response::new(v1::TriggerRunResponse {
            run: Some(convert::print(&made.row, self.core.now())),
            is_cached: made.is_cached,
            public_access_token,
        }))
    }

    async fn get_run(&self, request: Request<v1::GetRunRequest>) -> Result<Response<v1::GetRunResponse>, Status> {
        let caller = self.principal(&request).await?;
        let id = convert::parse_id(&request.get_ref().run_id).map_err(of_error)?;
        let run = self.core.get_run(&caller, &id).await.map_err(of_error)?;
        Ok(Response::new(v1::GetRunResponse { run: Some(convert::print(&run, self.core.now())) }))
    }

    async fn list_runs(&self, request: Request<v1::ListRunsRequest>) -> Result<Response<v1::ListRunsResponse>, Status> {
        let caller = self.principal(&request).await?;
        let list = convert::parse_list(request.into_inner()).map_err(of_error)?;
        let (session, after) = (list.session.as_ref(), list.after.as_ref());
        let (runs, next) =
            self.core.list_runs(&caller, list.filter, session, after, list.page_size).await.map_err(of_error)?;
        let now = self.core.now();
        Ok(Response::new(v1::ListRunsResponse {
            runs: runs.iter().map(|run| convert::print_in_list(run, now)).collect(),
            next_page_token: next.as_ref().map(page_token::runs).unwrap_or_default(),
        }))
    }

    async fn cancel_run(
        &self,
        request: Request<v1::CancelRunRequest>,
    ) -> Result<Response<v1::CancelRunResponse>, Status> {
        let caller = self.principal(&request).await?;
        let id = convert::parse_id(&request.get_ref().run_id).map_err(of_error)?;
        let core = self.core.clone();
        let run = self.to_the_end(async move { core.cancel_run(&caller, &id).await }).await?;
        Ok(Response::new(v1::CancelRunResponse { run: Some(convert::print(&run, self.core.now())) }))
    }

    async fn update_run_metadata(
        &self,
        request: Request<v1::UpdateRunMetadataRequest>,
    ) -> Result<Response<v1::UpdateRunMetadataResponse>, Status> {
        let caller = self.principal(&request).await?;
        let v1::UpdateRunMetadataRequest { run_id, metadata_json } = request.into_inner();
        let id = convert::parse_id(&run_id).map_err(of_error)?;
        let metadata = convert::parse_metadata(metadata_json).map_err(of_error)?;
        let run = self.core.set_run_metadata(&caller, &id, metadata).await.map_err(of_error)?;
        Ok(Response::new(v1::UpdateRunMetadataResponse { run: Some(convert::print(&run, self.core.now())) }))
    }

    async fn add_run_tags(
        &self,
        request: Request<v1::AddRunTagsRequest>,
    ) -> Result<Response<v1::AddRunTagsResponse>, Status> {
        let caller = self.principal(&request).await?;
        let v1::AddRunTagsRequest { run_id, tags } = request.into_inner();
        let id = convert::parse_id(&run_id).map_err(of_error)?;
        let run = self.core.add_run_tags(&caller, &id, tags).await.map_err(of_error)?;
        Ok(Response::new(v1::AddRunTagsResponse { run: Some(convert::print(&run, self.core.now())) }))
    }

    async fn wait_on_channel(
        &self,
        request: Request<v1::WaitOnChannelRequest>,
    ) -> Result<Response<v1::WaitOnChannelResponse>, Status> {
        let caller = self.principal(&request).await?;
        let wait = waitpoint::parse_wait_on_channel(request.into_inner()).map_err(of_error)?;
        let core = self.core.clone();
        let made = self.to_the_end(async move { core.wait_on_channel(&caller, wait).await }).await?;
        let waitpoint = Some(waitpoint::print(&made.row));
        Ok(Response::new(v1::WaitOnChannelResponse { waitpoint, is_cached: made.is_cached }))
    }

    async fn wait_for_duration(
        &self,
        request: Request<v1::WaitForDurationRequest>,
    ) -> Result<Response<v1::WaitForDurationResponse>, Status> {
        let caller = self.principal(&request).await?;
        let wait = waitpoint::parse_wait_for_duration(request.into_inner()).map_err(of_error)?;
        let core = self.core.clone();
        let row = self.to_the_end(async move { core.wait_for_duration(&caller, wait).await }).await?;
        Ok(Response::new(v1::WaitForDurationResponse { waitpoint: Some(waitpoint::print(&row)) }))
    }

    async fn suspend_on_waitpoint(
        &self,
        request: Request<v1::SuspendOnWaitpointRequest>,
    ) -> Result<Response<v1::SuspendOnWaitpointResponse>, Status> {
        let caller = self.principal(&request).await?;
        let v1::SuspendOnWaitpointRequest { run_id, waitpoint_id, lease } = request.into_inner();
        let run = convert::parse_id(&run_id).map_err(of_error)?;
        let id = waitpoint::parse_id(&waitpoint_id).map_err(of_error)?;
        let core = self.core.clone();
        let run = self.to_the_end(async move { core.suspend(&caller, &run, &id, lease).await }).await?;
        Ok(Response::new(v1::SuspendOnWaitpointResponse { run: Some(convert::print(&run, self.core.now())) }))
    }

    async fn create_waitpoint(
        &self,
        request: Request<v1::CreateWaitpointRequest>,
    ) -> Result<Response<v1::CreateWaitpointResponse>, Status> {
        let caller = self.principal(&request).await?;
        let new = waitpoint::parse_new(request.into_inner()).map_err(of_error)?;
        let (made, public_access_token) = self.core.create_waitpoint(&caller, new).await.map_err(of_error)?;
        let waitpoint = Some(waitpoint::print(&made.row));
        Ok(Response::new(v1::CreateWaitpointResponse { waitpoint, is_cached: made.is_cached, public_access_token }))
    }

    async fn get_waitpoint(
        &self,
        request: Request<v1::GetWaitpointRequest>,
    ) -> Result<Response<v1::GetWaitpointResponse>, Status> {
        let caller = self.principal(&request).await?;
        let id = waitpoint::parse_id(&request.get_ref().waitpoint_id).map_err(of_error)?;
        let row = self.core.get_waitpoint(&caller, &id).await.map_err(of_error)?;
        Ok(Response::new(v1::GetWaitpointResponse { waitpoint: Some(waitpoint::print(&row)) }))
    }

    async fn list_waitpoints(
        &self,
        request: Request<v1::ListWaitpointsRequest>,
    ) -> Result<Response<v1::ListWaitpointsResponse>, Status> {
        let caller = self.principal(&request).await?;
        let limit = page_size(request.get_ref().page_size, PAGE_SIZE_DEFAULT).map_err(of_error)?;
        let after = page_token::parse_waitpoints(&request.get_ref().page_token).map_err(of_error)?;
        let (rows, next) = self.core.list_waitpoints(&caller, after.as_ref(), limit).await.map_err(of_error)?;
        Ok(Response::new(v1::ListWaitpointsResponse {
            waitpoints: rows.iter().map(waitpoint::print).collect(),
            next_page_token: next.as_ref().map(page_token::waitpoints).unwrap_or_default(),
        }))
    }

    async fn complete_waitpoint(
        &self,
        request: Request<v1::CompleteWaitpointRequest>,
    ) -> Result<Response<v1::CompleteWaitpointResponse>, Status> {
        let caller = self.principal(&request).await?;
        let (id, completion) = waitpoint::parse_completion(request.into_inner()).map_err(of_error)?;
        let core = self.core.clone();
        let row = self.to_the_end(async move { core.complete_waitpoint(&caller, &id, completion).await }).await?;
        Ok(Response::new(v1::CompleteWaitpointResponse { waitpoint: Some(waitpoint::print(&row)) }))
    }
}

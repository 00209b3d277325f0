//! SessionService.

use crate::Services;
use crate::convert::{page_size, run, session as convert, transcript};
use crate::status::of_error;
use continuo_domain::session::PAGE_SIZE_MAX;
use continuo_proto::v1;
use continuo_proto::v1::session_service_server::SessionService;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl SessionService for Services {
    async fn create_session(
        &self,
        request: Request<v1::CreateSessionRequest>,
    ) -> Result<Response<v1::CreateSessionResponse>, Status> {
        let caller = self.principal(&request).await?;
        let create = convert::parse_create(request.into_inner()).map_err(of_error)?;
        let core = self.core.clone();
        let made = self.to_the_end(async move { core.create_session(&caller, create).await }).await?;
        Ok(Response::new(v1::CreateSessionResponse {
            session: Some(convert::print(&made.session, self.core.now())),
            run_id: made.run.spec.id.as_str().to_owned(),
            public_access_token: made.public_access_token,
            is_cached: made.is_cached,
        }))
    }

    async fn get_session(
        &self,
        request: Request<v1::GetSessionRequest>,
    ) -> Result<Response<v1::GetSessionResponse>, Status> {
        let caller = self.principal(&request).await?;
        let asked = convert::parse_ref("session", &request.get_ref().session).map_err(of_error)?;
        let row = self.core.get_session(&caller, &asked).await.map_err(of_error)?;
        Ok(Response::new(v1::GetSessionResponse { session: Some(convert::print(&row, self.core.now())) }))
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        let caller = self.principal(&request).await?;
        let list = convert::parse_list(&caller.environment, request.into_inner()).map_err(of_error)?;
        let page = self.core.list_sessions(&caller, list).await.map_err(of_error)?;
        Ok(Response::new(convert::print_page(&caller.environment, &page, self.core.now())))
    }

    async fn count_sessions(
        &self,
        request: Request<v1::CountSessionsRequest>,
    ) -> Result<Response<v1::CountSessionsResponse>, Status> {
        let caller = self.principal(&request).await?;
        let filter = convert::parse_filter(request.into_inner().filter).map_err(of_error)?;
        let count = self.core.count_sessions(&caller, &filter).await.map_err(of_error)?;
        Ok(Response::new(v1::CountSessionsResponse { count }))
    }

    async fn list_session_tags(
        &self,
        request: Request<v1::ListSessionTagsRequest>,
    ) -> Result<Response<v1::ListSessionTagsResponse>, Status> {
        let caller = self.principal(&request).await?;
        let v1::ListSessionTagsRequest { prefix, page_size: asked } = request.into_inner();
        let limit = page_size(asked, PAGE_SIZE_MAX).map_err(of_error)?;
        let tags = self.core.list_session_tags(&caller, &prefix, limit).await.map_err(of_error)?;
        let tags = tags.into_iter().map(|t| v1::SessionTag { tag: t.tag, sessions: t.sessions }).collect();
        Ok(Response::new(v1::ListSessionTagsResponse { tags }))
    }

    async fn update_session(
        &self,
        request: Request<v1::UpdateSessionRequest>,
    ) -> Result<Response<v1::UpdateSessionResponse>, Status> {
        let caller = self.principal(&request).await?;
        let v1::UpdateSessionRequest { session, value, update_mask } = request.into_inner();
        let asked = convert::parse_ref("session", &session).map_err(of_error)?;
        let patch = convert::parse_patch(value, update_mask).map_err(of_error)?;
        let core = self.core.clone();
        let row = self.to_the_end(async move { core.update_session(&caller, &asked, patch).await }).await?;
        Ok(Response::new(v1::UpdateSessionResponse { session: Some(convert::print(&row, self.core.now())) }))
    }

    async fn close_session(
        &self,
        request: Request<v1::CloseSessionRequest>,
    ) -> Result<Response<v1::CloseSessionResponse>, Status> {
        let caller = self.principal(&request).await?;
        let v1::CloseSessionRequest { session, reason, calling_run_id } = request.into_inner();
        let asked = convert::parse_ref("session", &session).map_err(of_error)?;
        let calling_run = calling_run_id.map(|id| run::parse_id_in("calling_run_id", &id));
        let calling_run = calling_run.transpose().map_err(of_error)?;
        let core = self.core.clone();
        let close = async move { core.close_session(&caller, &asked, reason, calling_run.as_ref()).await };
        let row = self.to_the_end(close).await?;
        Ok(Response::new(v1::CloseSessionResponse { session: Some(convert::print(&row, self.core.now())) }))
    }

    async fn delete_session(
        &self,
        request: Request<v1::DeleteSessionRequest>,
    ) -> Result<Response<v1::DeleteSessionResponse>, Status> {
        let caller = self.principal(&request).await?;
        let asked = convert::parse_ref("session", &request.get_ref().session).map_err(of_error)?;
        let core = self.core.clone();
        self.to_the_end(async move { core.delete_session(&caller, &asked).await }).await?;
        Ok(Response::new(v1::DeleteSessionResponse {}))
    }

    async fn end_and_continue(
        &self,
        request: Request<v1::EndAndContinueRequest>,
    ) -> Result<Response<v1::EndAndContinueResponse>, Status> {
        let caller = self.principal(&request).await?;
        let hand_over = convert::parse_end_and_continue(request.into_inner()).map_err(of_error)?;
        let core = self.core.clone();
        let continued = self.to_the_end(async move { core.end_and_continue(&caller, hand_over).await }).await?;
        let run_id = continued.run.as_str().to_owned();
        Ok(Response::new(v1::EndAndContinueResponse { run_id, swapped: continued.swapped }))
    }

    async fn list_session_runs(
        &self,
        request: Request<v1::ListSessionRunsRequest>,
    ) -> Result<Response<v1::ListSessionRunsResponse>, Status> {
        let caller = self.principal(&request).await?;
        let asked = convert::parse_ref("session", &request.get_ref().session).map_err(of_error)?;
        let rows = self.core.session_runs(&caller, &asked).await.map_err(of_error)?;
        let now = self.core.now();
        let session_runs = rows.iter().map(|row| convert::print_session_run(row, now)).collect();
        Ok(Response::new(v1::ListSessionRunsResponse { session_runs }))
    }

    async fn get_transcript(
        &self,
        request: Request<v1::GetTranscriptRequest>,
    ) -> Result<Response<v1::GetTranscriptResponse>, Status> {
        let caller = self.principal(&request).await?;
        let get = transcript::parse(request.into_inner()).map_err(of_error)?;
        let page = self.blobs.transcript(&caller, get).await.map_err(of_error)?;
        Ok(Response::new(transcript::print(page)))
    }
}

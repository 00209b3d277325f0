//! TokenService.

use crate::Services;
use crate::convert::{session, time, token as convert};
use crate::status::of_error;
use continuo_proto::v1;
use continuo_proto::v1::token_service_server::TokenService;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl TokenService for Services {
    async fn authenticate(
        &self,
        request: Request<v1::AuthenticateRequest>,
    ) -> Result<Response<v1::AuthenticateResponse>, Status> {
        let caller = self.principal(&request).await?;
        Ok(Response::new(convert::print_principal(&caller)))
    }

    async fn create_public_token(
        &self,
        request: Request<v1::CreatePublicTokenRequest>,
    ) -> Result<Response<v1::CreatePublicTokenResponse>, Status> {
        let caller = self.principal(&request).await?;
        let new = convert::parse_new(request.into_inner()).map_err(of_error)?;
        let token = self.core.create_public_token(&caller, new).await.map_err(of_error)?;
        Ok(Response::new(v1::CreatePublicTokenResponse { token }))
    }

    async fn get_claims(
        &self,
        request: Request<v1::GetClaimsRequest>,
    ) -> Result<Response<v1::GetClaimsResponse>, Status> {
        let caller = self.principal(&request).await?;
        let subject = self.core.token_subject(&caller).map_err(of_error)?;
        Ok(Response::new(v1::GetClaimsResponse { sub: subject.as_str().to_owned() }))
    }

    async fn revoke_tokens(
        &self,
        request: Request<v1::RevokeTokensRequest>,
    ) -> Result<Response<v1::RevokeTokensResponse>, Status> {
        let caller = self.principal(&request).await?;
        let asked = request.get_ref().session.as_deref().map(|text| session::parse_ref("session", text));
        let asked = asked.transpose().map_err(of_error)?;
        let not_before = self.core.revoke_tokens(&caller, asked.as_ref()).await.map_err(of_error)?;
        Ok(Response::new(v1::RevokeTokensResponse { not_before: Some(time::print(not_before)) }))
    }
}

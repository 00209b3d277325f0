//! AdminService. Its door is another one: the admin key, which belongs to no environment.

use crate::convert::{admin as convert, named};
use crate::door;
use crate::status::of_error;
use continuo_domain::Error;
use continuo_domain::error::CredentialProblem;
use continuo_domain::id::ApiKeyId;
use continuo_proto::v1;
use continuo_proto::v1::admin_service_server::AdminService;
use continuo_usecases::Administration;
use http::HeaderMap;
use std::fmt;
use std::sync::Arc;
use subtle::ConstantTimeEq;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

/// The server's own administration. Cheap to clone.
#[derive(Clone)]
pub struct Admin {
    administration: Administration,
    admin_key: Option<Arc<str>>,
}

impl Admin {
    /// Guarded by this key. Without one every call is refused.
    pub fn new(administration: Administration, admin_key: Option<&str>) -> Self {
        Self { administration, admin_key: admin_key.filter(|key| !key.is_empty()).map(Arc::from) }
    }

    /// Do these headers of a request come from whoever has the admin key? For routes that are no rpc.
    pub fn admits(&self, headers: HeaderMap) -> Result<(), CredentialProblem> {
        self.judge(&MetadataMap::from_headers(headers))
    }

    /// The first thing every rpc asks.
    fn check<T>(&self, request: &Request<T>) -> Result<(), Status> {
        self.judge(request.metadata()).map_err(|problem| of_error(Error::Unauthenticated(problem)))
    }

    fn judge(&self, metadata: &MetadataMap) -> Result<(), CredentialProblem> {
        let bearer = door::bearer(metadata).map_err(|error| match error {
            Error::Unauthenticated(problem) => problem,
            _ => CredentialProblem::Missing,
        })?;
        let is_it = |key: &Arc<str>| bool::from(key.as_bytes().ct_eq(bearer.as_bytes()));
        if self.admin_key.as_ref().is_some_and(is_it) { Ok(()) } else { Err(CredentialProblem::UnknownKey) }
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Admin(..)")
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn list_environments(
        &self,
        request: Request<v1::ListEnvironmentsRequest>,
    ) -> Result<Response<v1::ListEnvironmentsResponse>, Status> {
        self.check(&request)?;
        let rows = self.administration.list_environments().await.map_err(of_error)?;
        let environments = rows.iter().map(convert::print_environment).collect();
        Ok(Response::new(v1::ListEnvironmentsResponse { environments }))
    }

    async fn create_environment(
        &self,
        request: Request<v1::CreateEnvironmentRequest>,
    ) -> Result<Response<v1::CreateEnvironmentResponse>, Status> {
        self.check(&request)?;
        let new = convert::parse_new_environment(request.into_inner()).map_err(of_error)?;
        let (row, root_key) = self.administration.create_environment(new).await.map_err(of_error)?;
        let environment = Some(convert::print_environment(&row));
        Ok(Response::new(v1::CreateEnvironmentResponse { environment, root_key }))
    }

    async fn rotate_root_key(
        &self,
        request: Request<v1::RotateRootKeyRequest>,
    ) -> Result<Response<v1::RotateRootKeyResponse>, Status> {
        self.check(&request)?;
        let id = convert::parse_environment_id(&request.get_ref().environment_id).map_err(of_error)?;
        let root_key = self.administration.rotate_root_key(&id).await.map_err(of_error)?;
        Ok(Response::new(v1::RotateRootKeyResponse { root_key }))
    }

    async fn create_api_key(
        &self,
        request: Request<v1::CreateApiKeyRequest>,
    ) -> Result<Response<v1::CreateApiKeyResponse>, Status> {
        self.check(&request)?;
        let new = convert::parse_new_key(request.into_inner()).map_err(of_error)?;
        let (row, secret) = self.administration.create_api_key(new).await.map_err(of_error)?;
        Ok(Response::new(v1::CreateApiKeyResponse { api_key: Some(convert::print_key(&row)), secret }))
    }

    async fn list_api_keys(
        &self,
        request: Request<v1::ListApiKeysRequest>,
    ) -> Result<Response<v1::ListApiKeysResponse>, Status> {
        self.check(&request)?;
        let id = convert::parse_environment_id(&request.get_ref().environment_id).map_err(of_error)?;
        let rows = self.administration.list_api_keys(&id).await.map_err(of_error)?;
        Ok(Response::new(v1::ListApiKeysResponse { api_keys: rows.iter().map(convert::print_key).collect() }))
    }

    async fn revoke_api_key(
        &self,
        request: Request<v1::RevokeApiKeyRequest>,
    ) -> Result<Response<v1::RevokeApiKeyResponse>, Status> {
        self.check(&request)?;
        let id = convert::parse_environment_id(&request.get_ref().environment_id).map_err(of_error)?;
        let key = named("api_key_id", ApiKeyId::parse(&request.get_ref().api_key_id)).map_err(of_error)?;
        self.administration.revoke_api_key(&id, &key).await.map_err(of_error)?;
        Ok(Response::new(v1::RevokeApiKeyResponse {}))
    }

    async fn create_environment_token(
        &self,
        request: Request<v1::CreateEnvironmentTokenRequest>,
    ) -> Result<Response<v1::CreateEnvironmentTokenResponse>, Status> {
        self.check(&request)?;
        let (id, new) = convert::parse_new_token(request.into_inner()).map_err(of_error)?;
        let token = self.administration.create_environment_token(&id, new).await.map_err(of_error)?;
        Ok(Response::new(v1::CreateEnvironmentTokenResponse { token }))
    }
}

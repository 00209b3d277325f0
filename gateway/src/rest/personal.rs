//! What command line tools ask for with a personal access token. Here that is the admin key: the one person this server knows
//! is whoever administers it. It opens no environment; it is exchanged for a scoped token of one.

use axum::{
    Router,
    extract::{FromRequestParts, State},
    response::Response,
    routing::{get, post},
};
use continuo_proto::v1::{
    CreateEnvironmentTokenRequest, Environment, ListEnvironmentsRequest, admin_service_server::AdminService,
};
use http::{HeaderMap, StatusCode, request::Parts};
use serde_json::json;
use tonic::{
    Code,
    metadata::{Ascii, MetadataValue},
};

use super::tokens::expires_at;
use crate::{
    Gateway,
    auth::{bearer, branch, with_authorization},
    base_url::BaseUrl,
    body::{self, Capped, MEDIUM_BYTES_MAX},
    error::{Failure, Route},
    json, method_not_allowed,
    paths::{self, Params},
    validate::Issues,
};

pub(crate) fn routes<O: AdminService + Clone>() -> Router<Gateway<O>> {
    Router::new()
        .route(paths::WHOAMI, get(whoami))
        .route(paths::PROJECT_TOKENS, post(create_token::<O>))
        .method_not_allowed_fallback(method_not_allowed)
}

/// Whoever administers the server. As an extractor it comes first, so that nothing is read for somebody unknown.
struct Operator {
    authorization: MetadataValue<Ascii>,
    environments: Vec<Environment>,
}

impl<O: AdminService + Clone> FromRequestParts<Gateway<O>> for Operator {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway<O>) -> Result<Self, Failure> {
        let unknown = || Failure::error(StatusCode::UNAUTHORIZED, "Invalid or Missing Access Token");
        let authorization = bearer(&parts.headers).map_err(|_| unknown())?;
        let request = with_authorization(&authorization, ListEnvironmentsRequest {});
        let answer = gateway.api.list_environments(request).await.map_err(|status| match status.code() {
            Code::Unauthenticated => unknown(),
            _ => Failure::of(&status, Route::Tokens),
        })?;
        Ok(Self { authorization, environments: answer.into_inner().environments })
    }
}

impl Operator {
    /// The id of an environment, by the names tools know it by. None has branches, so one that is named is not there.
    fn environment_id(&self, project: &str, slug: &str, branch: Option<&[u8]>) -> Result<&str, Failure> {
        let not_found = |text| Failure::error(StatusCode::NOT_FOUND, text);
        let mut of_project = self.environments.iter().filter(|e| e.project_id == project).peekable();
        of_project.peek().ok_or_else(|| not_found("Project not found"))?;
        let is_whole = branch.is_none_or(|branch| branch == b"default");
        let found =
            of_project.find(|e| e.slug == slug && is_whole).ok_or_else(|| not_found("Environment not found"))?;
        Ok(&found.id)
    }
}

/// Tools want a user with an address for mail. There is none, and the domain says so.
async fn whoami(_: Operator, base: BaseUrl) -> Response {
    let user = json!({ "userId": "operator", "email": "operator@continuo.invalid", "dashboardUrl": base.join("") });
    json::response(StatusCode::OK, &user)
}

async fn create_token<O: AdminService + Clone>(
    operator: Operator,
    State(gateway): State<Gateway<O>>,
    headers: HeaderMap,
    params: Params,
    Capped(body): Capped<MEDIUM_BYTES_MAX>,
) -> Result<Response, Failure> {
    let (project, slug) = (params.get("project")?, params.get("environment")?);
    let environment_id = operator.environment_id(&project, &slug, branch(&headers))?;
    let request = create_request(environment_id, &body)?;
    let request = with_authorization(&operator.authorization, request);
    let answer = gateway.api.create_environment_token(request).await.map_err(|s| Failure::of(&s, Route::Tokens))?;
    Ok(json::response(StatusCode::OK, &json!({ "token": answer.get_ref().token })))
}

fn create_request(environment_id: &str, body: &[u8]) -> Result<CreateEnvironmentTokenRequest, Failure> {
    let issues = Issues::default();
    let object = issues.object(body::json(body)?);
    let claims = object.required_object("claims");
    let scopes = claims.map(|claims| claims.required("scopes").map_or_else(Vec::new, |_| claims.strings("scopes")));
    let request = CreateEnvironmentTokenRequest {
        environment_id: environment_id.to_owned(),
        scopes: scopes.unwrap_or_default(),
        expires_at: expires_at(&object),
    };
    issues.finish()?;
    Ok(request)
}

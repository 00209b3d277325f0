//! The table: what every route answers to every caller.

use super::Place;

/// The callers:
///
/// * `root` the environment's key; `admin` an additional key with everything; `key` one for the session `mine` only
/// * `other` the root key of another environment
/// * `token` the session's own token; `under` a token for another session; `type` one for all sessions and runs
/// * `out`, `chan` tokens for the direction `.out` and for the channel `tools` of `mine`
/// * `run` the token of the session's run; `run2` that of another session's run
/// * `strm` the credential of the session's stream `.out`, handed out for the root key: it is good for
///   that channel on every route of channels
/// * `late` a token that has expired; `none` no header; `oper` the admin key, which is the operator's personal access token
///
/// The cells:
///
/// * `yes` the status beside the route, and 404 for what is not there
/// * `own` the status beside the route, and 403 for what is not there: this caller cannot tell the difference
/// * `no` 403 always; `gone` 404 always: nothing of this environment is there for it; `key` 401: the route takes no token
/// * a number is that status; of two the second is for what is not there
///
/// A star: by a *name* that nobody has yet one may subscribe, so it is answered as if it were there. The rows run from top to
/// bottom on one node, so what ends something comes last; a run that was canceled has nothing left to wait for.
const TABLE: &str = "
                                                                 root admin key  other token under type out  chan run  run2 strm late none oper
GET    /api/v1/sessions                                      200 yes  yes   no   yes   no    no    yes  no   no   no   no   no   401  401  401
POST   /api/v1/sessions                                      200 yes  yes   no   201   key   key   key  key  key  no   no   no   401  401  401
GET    /api/v1/sessions/{session}                            200 yes  yes   own  gone  own   no    yes  no   no   own  no   no   401  401  401
PATCH  /api/v1/sessions/{session}                            200 yes  yes   no   gone  no    no    yes  no   no   no   no   no   401  401  401
POST   /api/v1/sessions/{session}/end-and-continue           200 yes  yes   own  gone  own   no    yes  no   no   own  no   no   401  401  401
GET    /api/v1/sessions/{session}/runs                       200 yes  yes   own  gone  no    no    no   no   no   no   no   no   401  401  401
PUT    /api/v1/sessions/{session}/snapshot-url               200 yes  yes   own  gone  own   no    yes  no   no   own  no   no   401  401  401
GET    /api/v1/sessions/{session}/snapshot-url               200 yes  yes   own  gone  own   no    yes  no   no   own  no   no   401  401  401
GET    /api/v1/sessions/{session}/transcript                 200 yes  yes   own  gone  key   key   key  key  key  own  no   no   401  401  401

PUT    /realtime/v1/sessions/{session}/in                    202 yes  yes   own  gone  own   no    yes  no   no   own  no   no   401  401  401
PUT    /realtime/v1/sessions/{session}/out                   202 yes  yes   own  gone  no    no    no   no   no   own  no   no   401  401  401
GET    /realtime/v1/sessions/{session}/in                   *200 yes  yes   own  gone  no    no    no   no   no   own  no   no   401  401  401
GET    /realtime/v1/sessions/{session}/out                  *200 yes  yes   own  gone  own   no    yes  own  no   own  no   own  401  401  401
HEAD   /realtime/v1/sessions/{session}/in                   *200 yes  yes   own  gone  no    no    no   no   no   own  no   no   401  401  401
HEAD   /realtime/v1/sessions/{session}/out                  *200 yes  yes   own  gone  own   no    yes  own  no   own  no   own  401  401  401
GET    /realtime/v1/sessions/{session}/in/records           *200 yes  yes   own  gone  no    no    no   no   no   own  no   no   401  401  401
GET    /realtime/v1/sessions/{session}/out/records          *200 yes  yes   own  gone  own   no    yes  own  no   own  no   own  401  401  401
POST   /realtime/v1/sessions/{session}/in/append             200 yes  yes   own  gone  own   no    yes  no   no   own  no   no   401  401  401
POST   /realtime/v1/sessions/{session}/out/append            200 yes  yes   own  gone  no    no    no   no   no   own  no   own  401  401  401

PUT    /realtime/v1/sessions/{session}/channels/tools/in     202 yes  yes   own  gone  own   no    yes  no   own  own  no   no   401  401  401
PUT    /realtime/v1/sessions/{session}/channels/tools/out    202 yes  yes   own  gone  no    no    no   no   no   own  no   no   401  401  401
GET    /realtime/v1/sessions/{session}/channels/tools/in    *200 yes  yes   own  gone  own   no    yes  no   own  own  no   no   401  401  401
GET    /realtime/v1/sessions/{session}/channels/tools/out   *200 yes  yes   own  gone  own   no    yes  no   own  own  no   no   401  401  401
HEAD   /realtime/v1/sessions/{session}/channels/tools/out   *200 yes  yes   own  gone  own   no    yes  no   own  own  no   no   401  401  401
GET    /realtime/v1/sessions/{session}/channels/tools/in/records  *200 yes yes own gone own  no    yes  no   own  own  no   no   401  401  401
GET    /realtime/v1/sessions/{session}/channels/tools/out/records *200 yes yes own gone own  no    yes  no   own  own  no   no   401  401  401
POST   /realtime/v1/sessions/{session}/channels/tools/in/append    200 yes yes own gone own  no    yes  no   own  own  no   no   401  401  401
POST   /realtime/v1/sessions/{session}/channels/tools/out/append   200 yes yes own gone no   no    no   no   no   own  no   no   401  401  401
GET    /realtime/v1/sessions/{session}/channels/other/out   *200 yes  yes   own  gone  own   no    yes  no   no   own  no   no   401  401  401
POST   /realtime/v1/sessions/{session}/channels/other/in/append    200 yes yes own gone own  no    yes  no   no   own  no   no   401  401  401

GET    /v1/streams/{stream}/records?seq_num=0                200 yes  yes   own  gone  own   no    yes  own  no   own  no   own  401  401  401
POST   /v1/streams/{stream}/records                          200 yes  yes   own  gone  no    no    no   no   no   own  no   own  401  401  401
GET    /v1/streams/{stream}/records/tail                     200 yes  yes   own  gone  own   no    yes  own  no   own  no   own  401  401  401
GET    /v1                                                   404 yes  yes   yes  yes   yes   yes   yes  yes  yes  yes  yes  yes  404  404  404
GET    /v1/basins                                            404 yes  yes   yes  yes   yes   yes   yes  yes  yes  yes  yes  yes  404  404  404

GET    /api/v1/runs                                          200 yes  yes   no   yes   no    no    no   no   no   no   no   no   401  401  401
GET    /api/v3/runs/{run}                                    200 yes  yes   no   gone  no    no    yes  no   no   own  no   no   401  401  401
GET    /api/v1/runs/{run}/metadata                           200 yes  yes   no   gone  no    no    yes  no   no   own  no   no   401  401  401
PUT    /api/v1/runs/{run}/metadata                           200 yes  yes   no   gone  no    no    no   no   no   own  no   no   401  401  401
GET    /api/v1/runs/{run}/packets/payload                    404 yes  yes   no   gone  no    no    yes  no   no   own  no   no   401  401  401
POST   /api/v1/runs/{run}/reschedule                         422 yes  yes   no   gone  no    no    yes  no   no   own  no   no   401  401  401
POST   /api/v1/runs/{run}/replay                             422 yes  yes   no   gone  no    no    yes  no   no   own  no   no   401  401  401
POST   /api/v1/runs/{run}/tags                               200 yes  yes   no   gone  no    no    no   no   no   own  no   no   401  401  401
POST   /api/v1/runs/{run}/session-streams/wait               200 yes  yes   no   gone  key   key   key  key  key  own  no   no   401  401  401
POST   /engine/v1/runs/{run}/waitpoints/tokens/nothing/wait  404 yes  yes   no   gone  key   key   key  key  key  own  no   no   401  401  401
POST   /api/v1/tasks/any/trigger                             200 yes  yes   no   yes   no    no    no   no   no   no   no   no   401  401  401

POST   /api/v1/waitpoints/tokens                             200 yes  yes   no   yes   no    no    no   no   no   yes  yes  no   401  401  401
GET    /api/v1/waitpoints/tokens                             200 yes  yes   no   yes   no    no    no   no   no   no   no   no   401  401  401
GET    /api/v1/waitpoints/tokens/{waitpoint}                 200 yes  yes   no   gone  no    no    no   no   no   yes  yes  no   401  401  401
POST   /api/v1/waitpoints/tokens/{waitpoint}/complete        200 yes  yes   no   gone  no    no    no   no   no   yes  yes  no   401  401  401
POST   /api/v1/waitpoints/tokens/{waitpoint}/callback/forged 401 key  key  key  key   key   key   key  key  key  key  key  key  401  401  401
PUT    /api/v2/packets/a/b                                   200 yes  yes   no   yes   key   key   key  key  key  yes  yes  no   401  401  401
GET    /api/v1/packets/a/b                                   200 yes  yes   no   yes   key   key   key  key  key  yes  yes  no   401  401  401
GET    /blobs/nothing                                        403 yes  yes   yes  yes   yes   yes   yes  yes  yes  yes  yes  yes  403  403  403
POST   /api/v1/auth/jwt/claims                               200 yes  yes   yes  yes   key   key   key  key  key  no   no   no   401  401  401
POST   /api/v1/auth/public-tokens                            200 yes  yes   yes  yes   key   key   key  key  key  no   no   no   401  401  401

GET    /openapi.json                                         200 yes  yes  yes  yes  yes   yes   yes  yes  yes  yes  yes  yes  yes  yes  yes
GET    /api/v2/whoami                                        200 401  401  401  401   401   401   401  401  401  401  401  401  401  401  yes
POST   /api/v1/projects/proj_dev/dev/jwt                      200 401  401  401  401   401   401   401  401  401  401  401  401  401  401  yes

POST   /api/v2/runs/{run}/cancel                             200 yes  yes   no   gone  no    no    yes  no   no   own  no   no   401  401  401
POST   /engine/v1/runs/{run}/wait/duration                   422 yes  yes   no   gone  key   key   key  key  key  409/403 no no   401 401  401
POST   /api/v1/sessions/{session}/close                      200 yes  yes   no   gone  no    no    yes  no   no   no   no   no   401  401  401
DELETE /api/v1/sessions/{session}                            204 yes  yes   no   gone  no    no    no   no   no   no   no   no   401  401  401
";

/// A row: method, path, the status of success, whether a name may be subscribed to, and a cell for each caller.
pub(super) struct Row<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) success: u16,
    any_name: bool,
    pub(super) cells: Vec<(&'a str, &'a str)>,
}

pub(super) fn rows() -> Vec<Row<'static>> {
    let mut lines = TABLE.lines().filter(|line| !line.trim().is_empty());
    let callers: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    let row = |line: &'static str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [method, path, success, cells @ ..] = &words[..] else { panic!("{line}") };
        assert_eq!(cells.len(), callers.len(), "{line}");
        Row {
            method,
            path,
            success: success.trim_start_matches('*').parse().unwrap(),
            any_name: success.starts_with('*'),
            cells: callers.iter().copied().zip(cells.iter().copied()).collect(),
        }
    };
    lines.map(row).collect()
}

impl Row<'_> {
    pub(super) fn expected(&self, cell: &str, place: &Place) -> u16 {
        let is_answered = place.is_there || (self.any_name && place.is_name);
        match cell {
            "yes" if is_answered => self.success,
            "own" if place.is_there => self.success,
            "gone" if self.any_name && place.is_name => self.success,
            "yes" | "gone" => 404,
            "own" | "no" => 403,
            "key" => 401,
            numbers => {
                let (there, missing) = numbers.split_once('/').unwrap_or((numbers, numbers));
                if place.is_there { there } else { missing }.parse().unwrap()
            }
        }
    }
}

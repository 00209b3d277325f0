//! What `dev` says to try: commands that can be pasted, in the order a person would want them.

use std::path::Path;

/// The commands, with `$CONTINUO` for the program. The README shows the same ones, and a test runs them.
pub(super) const COMMANDS: &str = include_str!("walkthrough.sh");

/// The commands with everything they need for this server. Its certificate, if it has one, may well be its own authority.
pub(super) fn text(url: &str, key: &str, certificate: Option<&Path>) -> String {
    let program = std::env::current_exe().map_or_else(|_| "continuo".to_owned(), |path| path.display().to_string());
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let trust = certificate.map(|path| format!("export CONTINUO_CA_FILE={}\n", absolute(path).display()));
    format!(
        "secret key {key}\nconsole {url}/console/\n\nTry this in another terminal:\n\nexport CONTINUO_URL={url}\nexport CONTINUO_SECRET_KEY={key}\n\
         {}export CONTINUO={program}\n{COMMANDS}\n",
        trust.unwrap_or_default()
    )
}

//! What `dev` says to try: commands that can be pasted, in the order a person would want them.

/// The commands, with `$CONTINUO` for the program. The README shows the same ones, and a test runs them.
pub(super) const COMMANDS: &str = include_str!("walkthrough.sh");

/// The commands with everything they need for this server.
pub(super) fn text(url: &str, key: &str) -> String {
    let program = std::env::current_exe().map_or_else(|_| "continuo".to_owned(), |path| path.display().to_string());
    format!(
        "secret key {key}\n\nTry this in another terminal:\n\nexport CONTINUO_URL={url}\nexport CONTINUO_SECRET_KEY={key}\n\
         export CONTINUO={program}\n{COMMANDS}\n"
    )
}

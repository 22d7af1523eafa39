//! `spore profile`: the public profile of this node.

use std::io::Write;

use clap::{Args as ClapArgs, Subcommand};
use spore_api::{dto, query::Query, route::Route};
use spore_base::{clock::unix_now, name};
use spore_protocol::{NodeProfile, SignedObject, profile::PROFILE_VERSION};

use super::{CliError, Context, access::NodeAccess, text};

/// Longest display name, in characters. It has to fit one line.
const MAX_NAME: usize = 80;
/// Longest text of any other field, in characters.
const MAX_TEXT: usize = 2000;

/// Show or change the public profile of this node
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Change the given fields of the profile and keep the others
    Set(Fields),
    /// Show the profile of a node
    Show(Show),
}

#[derive(Debug, ClapArgs)]
struct Fields {
    /// The name that other users see
    #[arg(long)]
    display_name: Option<String>,
    /// A short text about the node
    #[arg(long)]
    bio: Option<String>,
    /// The address of a web page
    #[arg(long)]
    website: Option<String>,
    /// The web address of a picture
    #[arg(long)]
    avatar_url: Option<String>,
    /// An address for donations
    #[arg(long)]
    donation_address: Option<String>,
    /// Print the signed profile as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
struct Show {
    /// The node: its id or a unique prefix of the id [default: this node]
    node: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    match args.command {
        Command::Set(fields) => set(&fields, context).await,
        Command::Show(args) => show(&args, context).await,
    }
}

async fn set(fields: &Fields, context: &mut Context) -> Result<(), CliError> {
    let given = [&fields.display_name, &fields.bio, &fields.website, &fields.avatar_url, &fields.donation_address];
    if given.iter().all(|field| field.is_none()) {
        return Err(CliError::usage("no field to change")
            .hint("pass `--display-name`, `--bio`, `--website`, `--avatar-url` or `--donation-address`"));
    }
    let (source, identity) = NodeAccess::open_to_write(context).await?;
    let old: Option<NodeProfile> = source.profile(&identity.node_id()).await?;
    let of = |field: fn(&NodeProfile) -> &String| old.as_ref().map(field).cloned().unwrap_or_default();
    let pick = |new: &Option<String>, old: String| new.clone().unwrap_or(old);
    let profile = NodeProfile {
        node_id: identity.node_id(),
        display_name: pick(&fields.display_name, of(|p| &p.display_name)),
        bio: pick(&fields.bio, of(|p| &p.bio)),
        website: pick(&fields.website, of(|p| &p.website)),
        avatar_url: pick(&fields.avatar_url, of(|p| &p.avatar_url)),
        donation_address: pick(&fields.donation_address, of(|p| &p.donation_address)),
        // The later one of two changes within a second must have the newer timestamp.
        timestamp: unix_now().max(old.as_ref().map_or(0, |old| old.timestamp + 1)),
        schema_version: PROFILE_VERSION,
    };
    check(&profile)?;
    let signed = identity.sign(&profile).map_err(|e| CliError::failed(e.to_string()))?;
    let text = signed.to_json();
    source.submit(signed.into()).await?;
    if fields.json {
        return Ok(writeln!(context.out, "{text}")?);
    }
    writeln!(context.out, "Signed and saved the profile of {}.", text::line(&profile.display_name))?;
    Ok(())
}

fn check(profile: &NodeProfile) -> Result<(), CliError> {
    if profile.display_name.chars().count() > MAX_NAME {
        return Err(CliError::usage(format!("--display-name is longer than {MAX_NAME} characters")));
    }
    // An empty name is no name at all, which is allowed.
    if !profile.display_name.is_empty() {
        name::check(&profile.display_name)
            .map_err(|fault| CliError::usage(format!("--display-name is no good name: {fault}")))?;
    }
    let texts = [&profile.bio, &profile.website, &profile.avatar_url, &profile.donation_address];
    if texts.iter().any(|text| text.chars().count() > MAX_TEXT) {
        return Err(CliError::usage(format!("a field is longer than {MAX_TEXT} characters")));
    }
    for (flag, url) in [("--website", &profile.website), ("--avatar-url", &profile.avatar_url)] {
        if !url.is_empty() && !url.starts_with("https://") && !url.starts_with("http://") {
            return Err(CliError::usage(format!("{flag} must begin with https:// or http://")));
        }
    }
    Ok(())
}

async fn show(args: &Show, context: &mut Context) -> Result<(), CliError> {
    let source = NodeAccess::open(context).await?;
    let id = match &args.node {
        Some(id) => id.clone(),
        None => source.get::<dto::NodeStatus>(&Route::Status).await?.node_id,
    };
    let node: dto::NodeSummary = source.get(&Route::Node(id)).await?;
    let profile = match node.node_id.parse() {
        Ok(id) => source.profile(&id).await?,
        Err(_) => None,
    };
    let (avatar, donation) = profile.map(|profile| (profile.avatar_url, profile.donation_address)).unwrap_or_default();
    if args.json {
        let mut object = serde_json::to_value(&node).map_err(|e| CliError::failed(e.to_string()))?;
        if let Some(object) = object.as_object_mut() {
            let given = |text: String| Some(text).filter(|text| !text.is_empty()).into();
            object.insert("avatar_url".into(), given(avatar));
            object.insert("donation_address".into(), given(donation));
        }
        return context.json(&object);
    }
    let out = &mut context.out;
    writeln!(out, "Node           {}", node.node_id)?;
    writeln!(out, "Name           {}", text::name(node.display_name.as_deref().unwrap_or("(none)")))?;
    writeln!(out, "Bio            {}", text::line(node.bio.as_deref().unwrap_or_default()))?;
    writeln!(out, "Website        {}", text::line(node.website.as_deref().unwrap_or_default()))?;
    writeln!(out, "Picture        {}", text::line(&avatar))?;
    writeln!(out, "Donations      {}", text::line(&donation))?;
    writeln!(out, "Experiments    {}", node.experiment_count)?;
    writeln!(out, "Verifications  {}", node.verification_count)?;
    writeln!(out, "Reputation     {:+.1}", node.reputation)?;
    writeln!(out, "Hardware       {}", node.hardware_classes.join(", "))?;
    writeln!(out, "Last active    {}", text::ago(node.last_activity))?;
    Ok(())
}

impl NodeAccess {
    /// The current profile of a node, with the fields that the API's summary leaves out. None when there is none.
    async fn profile(&self, node: &spore_protocol::NodeId) -> Result<Option<NodeProfile>, CliError> {
        match self.text(&Route::Profile(node.to_string()), &Query::default()).await {
            Ok(text) => match SignedObject::from_json(&text, Some(spore_protocol::Kind::Profile)) {
                Ok(SignedObject::Profile(profile)) => Ok(Some(profile.object().clone())),
                _ => Err(CliError::failed("cannot read the profile in the store")),
            },
            Err(error) if error.kind == super::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

//! The plugin of the guide: what `docs/src/guide/first-plugin.md` shows is this code.

// docs: plugin
use std::sync::Arc;

use async_trait::async_trait;
use gateway_core::RequestCtx;
use gateway_core::plugin::{
    BuildEnv, BuildError, Class, Flow, HookError, Hooks, OptionPath, Plugin, Reply, RequestHeader,
    RequestHook,
};
use http::{Method, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

/// What operators write.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GreetConfig {
    /// Who is greeted.
    name: String,
}

/// Answers GET requests with a greeting.
pub struct Greet {
    greeting: String,
}

impl Plugin for Greet {
    const KIND: &'static str = "greet";
    const CLASS: Class = Class::Transform;
    type Config = GreetConfig;

    fn build(config: GreetConfig, _: &BuildEnv<'_>) -> Result<Self, BuildError> {
        if config.name.is_empty() {
            return Err(BuildError::at(OptionPath::root().key("name"), "nobody has no name"));
        }
        Ok(Self { greeting: format!("hello, {}\n", config.name) })
    }

    fn attach(self: Arc<Self>, hooks: &mut Hooks) {
        hooks.request(self);
    }
}

#[async_trait]
impl RequestHook for Greet {
    async fn on_request(
        &self,
        head: &mut RequestHeader,
        _: &mut RequestCtx,
    ) -> Result<Flow, HookError> {
        if head.method != Method::GET {
            return Ok(Flow::Continue);
        }
        Ok(Flow::Respond(Reply::new(StatusCode::OK).with_body(self.greeting.clone())))
    }
}
// docs: end

mod alone {
    use super::*;

    // docs: test
    use gateway_core::plugin::testing::PluginTest;

    #[tokio::test]
    async fn get_is_greeted_and_post_passes() {
        let test = PluginTest::<Greet>::yaml("name: world");

        assert_eq!(test.get("/").send().await.body(), b"hello, world\n");
        assert_eq!(test.post("/").upstream_status(201).send().await.status(), 201);
    }

    #[test]
    fn nobody_cannot_be_greeted() {
        let faults = PluginTest::<Greet>::faults("name: ''");

        assert_eq!(faults, ["plugins[0].options.name: nobody has no name"]);
    }
    // docs: end
}

mod through_a_gateway {
    use gateway_core::Gateway;
    use gateway_tests::{Gate, Origin};

    use super::*;

    #[test]
    fn a_gateway_with_the_plugin_greets() {
        let builder = Gateway::builder().plugins(gateway_plugins::all()).plugin::<Greet>();
        let origin = Origin::saying("from the origin");
        let gate = Gate::with(
            builder,
            &format!(
                "version: 1\nlisteners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
                 access_log: {{output: \"off\"}}\n\
                 plugins: [{{kind: greet, options: {{name: world}}}}]\n\
                 upstreams: [{{name: origin, endpoints: [\"{}\"]}}]\n\
                 routes: [{{name: all, upstream: origin}}]\n",
                origin.address()
            ),
        );

        assert_eq!(gate.get("/").text(), "hello, world\n");
        let post = gate.exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(post.text(), "from the origin");
    }
}

/// The custom gateway of the guide; that it compiles is what is tested.
#[expect(dead_code, reason = "a main function that the guide shows")]
mod custom {
    use super::Greet;

    // docs: main
    use std::process::ExitCode;

    use gateway_core::Gateway;

    fn main() -> ExitCode {
        Gateway::builder()
            .plugins(gateway_plugins::all())
            .plugin::<Greet>()
            .config_file("gateway.yaml")
            .run()
    }
    // docs: end
}

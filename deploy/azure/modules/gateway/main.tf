# The gateway's Container App: the gateway, and the OpenTelemetry collector next to it. An init container renders the
# settings into a folder that both read. Rendered files hold references to secrets, no secrets.

locals {
  # Which settings are secret is declared once, for the whole program.
  settings_schema = jsondecode(file("${path.module}/../../../../schemas/settings.schema.json"))
  secret_patterns = concat(
    [for name, schema in local.settings_schema.properties : "^${name}$" if try(schema.writeOnly, false)],
    [for pattern, schema in local.settings_schema.patternProperties : pattern if try(schema.writeOnly, false)],
  )

  # ---- settings ----

  # How long the ingress waits for a byte, less what the gateway's answer needs to get there.
  patience = "${var.ingress_idle_timeout_minutes * 60 - 10}s"

  default_settings = {
    ENVIRONMENT = var.environment_code
    # It distinguishes the metrics of environments that share a workspace.
    CLUSTER_NAME       = var.name
    GATEWAY_LOG_FORMAT = "json"
    # nginx sees the processors of the node, not those of the container.
    GATEWAY_WORKERS         = tostring(max(1, floor(var.cpu)))
    GATEWAY_TRUSTED_PROXIES = join(",", var.trusted_proxies)
    # A stream that is silent for a quarter of the ingress's idle timeout gets a comment, so that the ingress never ends it.
    AI_PROXY_STREAM_HEARTBEAT = "${var.ingress_idle_timeout_minutes * 60 / 4}s"
    # Before the head of a backend's answer nothing can be sent that would keep the ingress waiting. So the gateway gives up just
    # before the ingress does: the client gets an error that says why, and no further attempt begins for nobody.
    AI_PROXY_FIRST_BYTE_TIMEOUT = local.patience
    AI_PROXY_DEADLINE           = local.patience
    OTEL_COLLECTOR_ENDPOINT     = "127.0.0.1:4318"
  }

  backend_settings = merge([
    for index, backend in var.backends : merge(
      {
        "AZURE_OPENAI_ENDPOINT_${index}"  = backend.endpoint
        "AZURE_OPENAI_NAME_${index}"      = backend.name
        "AZURE_OPENAI_REGION_${index}"    = backend.location
        "AZURE_OPENAI_PRIORITY_${index}"  = tostring(backend.priority)
        "AZURE_OPENAI_WEIGHT_${index}"    = tostring(backend.weight)
        "AZURE_OPENAI_AUTH_MODE_${index}" = "entra"
      },
      length(backend.deployments) == 0 ? {} : { "AZURE_OPENAI_DEPLOYMENTS_${index}" = join(",", backend.deployments) },
    )
  ]...)

  # The first has the highest priority, as the toolkit's policies have it. The pools have their own.
  simulator_settings = var.simulators == null ? {} : merge([
    for index, simulator in var.simulators.backends : {
      "AZURE_OPENAI_ENDPOINT_${index}" = simulator.endpoint
      "AZURE_OPENAI_NAME_${index}"     = simulator.name
      "AZURE_OPENAI_PRIORITY_${index}" = tostring(10 - 5 * min(index, 1))
    }
  ]...)

  telemetry_settings = merge(
    var.logs_ingest_uri == "" ? {} : { APIM_GATEWAY_LOGS_INGEST_URI = var.logs_ingest_uri, APIM_GATEWAY_ID = var.name },
    # The collector adds the path.
    var.prometheus_endpoint == "" ? {} : { AZURE_MONITOR_WORKSPACE_ENDPOINT = replace(var.prometheus_endpoint, "//api/v1/write.*$/", "") },
  )

  # The settings that make the gateway count something for which replicas must share a Redis.
  counts_limits = var.simulators != null || anytrue([
    for name, value in var.app_settings :
    can(regex("^GATEWAY_(CLIENT|POOL)_(TOKENS|REQUESTS)_PER_(MINUTE|DAY)_", name)) ||
    can(regex("^GATEWAY_POOL_BUDGET_SOURCE_", name)) || name == "AI_RATE_LIMIT_SHARED_LIMIT" ||
    (contains(["ENABLE_AI_RATE_LIMIT", "ENABLE_RATE_LIMIT", "ENABLE_QUOTA"], name) && contains(["true", "1", "yes", "on"], lower(trimspace(value))))
  ])

  redis_settings = var.redis == null ? {} : merge(
    {
      RESPONSES_AFFINITY_REDIS_HOST = var.redis.host
      RESPONSES_AFFINITY_REDIS_PORT = tostring(var.redis.port)
      RESPONSES_AFFINITY_REDIS_TLS  = tostring(var.redis.tls)
    },
    local.counts_limits ? {
      AI_RATE_LIMIT_POLICY     = "redis"
      AI_RATE_LIMIT_REDIS_HOST = var.redis.host
      AI_RATE_LIMIT_REDIS_PORT = tostring(var.redis.port)
      AI_RATE_LIMIT_REDIS_TLS  = tostring(var.redis.tls)
    } : {},
  )

  fixed_settings = merge(local.redis_settings, {
    AZURE_CLIENT_ID  = azurerm_user_assigned_identity.this.client_id
    GATEWAY_LOG_MODE = lower(var.log_mode)
  }, local.simulator_settings, var.simulators == null ? {} : { GATEWAY_E2E_TEST_MODE = "true" })

  reserved = concat(keys(local.fixed_settings), ["GATEWAY_SHARED_DIR"])

  # Later maps win. The reserved names are refused in app_settings.
  settings = merge(local.default_settings, local.backend_settings, local.telemetry_settings, var.app_settings, local.fixed_settings)

  # ---- secrets: the name of the setting, and the name of the vault's secret ----

  secrets = merge(
    { for name in var.secret_settings : name => lower(replace(name, "_", "-")) },
    var.app_insights_secret_name == "" ? {} : { APPLICATIONINSIGHTS_CONNECTION_STRING = var.app_insights_secret_name },
    var.simulators == null ? {} : { for index, simulator in var.simulators.backends : "AZURE_OPENAI_KEY_${index}" => var.simulators.secret_name },
    var.redis == null ? {} : { RESPONSES_AFFINITY_REDIS_PASSWORD = var.redis.secret_name },
    var.redis != null && local.counts_limits ? { AI_RATE_LIMIT_REDIS_PASSWORD = var.redis.secret_name } : {},
  )
  vault_secrets     = toset(values(local.secrets))
  collector_secrets = { for name, secret in local.secrets : name => secret if name == "APPLICATIONINSIGHTS_CONNECTION_STRING" }

  # ---- rights: each on one resource, none on a group or a subscription ----

  roles = merge(
    var.registry_id == "" ? {} : { registry = { scope = var.registry_id, role = "AcrPull" } },
    { for index, backend in var.backends : "backend-${index}" => { scope = backend.resource_id, role = "Cognitive Services OpenAI User" } },
    var.logs_ingest_uri == "" ? {} : { logs = { scope = var.logs_dcr_id, role = "Monitoring Metrics Publisher" } },
    var.prometheus_endpoint == "" ? {} : { prometheus = { scope = var.prometheus_dcr_id, role = "Monitoring Metrics Publisher" } },
  )

  shared_dir = "/shared-configs"
}

resource "azurerm_user_assigned_identity" "this" {
  name                = var.identity_name
  resource_group_name = var.resource_group_name
  location            = var.location
  tags                = var.tags
}

resource "azurerm_role_assignment" "this" {
  for_each = local.roles

  scope                = each.value.scope
  role_definition_name = each.value.role
  principal_id         = azurerm_user_assigned_identity.this.principal_id
  principal_type       = "ServicePrincipal"
}

resource "azurerm_container_app" "this" {
  name                         = var.name
  resource_group_name          = var.resource_group_name
  container_app_environment_id = var.container_app_environment_id
  revision_mode                = "Single"
  max_inactive_revisions       = var.max_inactive_revisions
  workload_profile_name        = var.workload_profile_name
  tags                         = var.tags

  identity {
    type         = "UserAssigned"
    identity_ids = distinct([azurerm_user_assigned_identity.this.id, var.vault_identity_id])
  }

  dynamic "registry" {
    for_each = var.registry_login_server == "" ? [] : [var.registry_login_server]

    content {
      server   = registry.value
      identity = azurerm_user_assigned_identity.this.id
    }
  }

  # Without a version in the reference, Container Apps takes a new version of the secret within half an hour.
  dynamic "secret" {
    for_each = local.vault_secrets

    content {
      name                = secret.value
      key_vault_secret_id = "${trimsuffix(var.key_vault_uri, "/")}/secrets/${secret.value}"
      identity            = var.vault_identity_id
    }
  }

  ingress {
    external_enabled           = var.external_enabled
    target_port                = 9080
    transport                  = "auto"
    allow_insecure_connections = false

    traffic_weight {
      latest_revision = true
      percentage      = 100
    }
  }

  template {
    min_replicas = var.min_replicas
    max_replicas = var.max_replicas
    # The gateway serves running requests for up to 240 seconds before it ends.
    termination_grace_period_seconds = var.termination_grace_period_seconds

    http_scale_rule {
      name                = "http-concurrency"
      concurrent_requests = tostring(var.http_concurrency)
    }

    dynamic "custom_scale_rule" {
      for_each = var.cpu_scale_threshold == null ? [] : [var.cpu_scale_threshold]

      content {
        name             = "cpu"
        custom_rule_type = "cpu"
        metadata         = { type = "Utilization", value = tostring(custom_scale_rule.value) }
      }
    }

    volume {
      name         = "shared-configs"
      storage_type = "EmptyDir"
    }

    init_container {
      name   = "render"
      image  = var.image
      cpu    = 0.25
      memory = "0.5Gi"
      args   = ["render", "--out", "${local.shared_dir}/gateway"]

      dynamic "env" {
        for_each = local.settings

        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = local.secrets

        content {
          name        = env.key
          secret_name = env.value
        }
      }

      # A value of a secret is no part of a revision. This is, so a change of it makes a new one.
      dynamic "env" {
        for_each = var.secrets_revision == "" ? [] : [var.secrets_revision]

        content {
          name  = "DEPLOYED_SECRETS"
          value = env.value
        }
      }

      volume_mounts {
        name = "shared-configs"
        path = local.shared_dir
      }
    }

    container {
      name   = "gateway"
      image  = var.image
      cpu    = var.cpu
      memory = var.memory

      env {
        name  = "GATEWAY_SHARED_DIR"
        value = "${local.shared_dir}/gateway"
      }

      dynamic "env" {
        for_each = local.settings

        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = { for name, secret in local.secrets : name => secret if !contains(keys(local.collector_secrets), name) }

        content {
          name        = env.key
          secret_name = env.value
        }
      }

      volume_mounts {
        name = "shared-configs"
        path = local.shared_dir
      }

      startup_probe {
        transport               = "HTTP"
        path                    = "/readyz"
        port                    = 7086
        interval_seconds        = 1
        failure_count_threshold = 60
      }

      readiness_probe {
        transport               = "HTTP"
        path                    = "/readyz"
        port                    = 7086
        interval_seconds        = 2
        timeout                 = 5
        failure_count_threshold = 2
        # The gateway itself waits until all workers serve.
        success_count_threshold = 1
      }

      liveness_probe {
        transport               = "HTTP"
        path                    = "/healthz"
        port                    = 7086
        interval_seconds        = 10
        timeout                 = 5
        failure_count_threshold = 3
      }
    }

    container {
      name   = "otel-collector"
      image  = var.otel_collector_image
      cpu    = var.otel_collector_cpu
      memory = var.otel_collector_memory
      args   = ["--config=${local.shared_dir}/gateway/otel-collector.yaml"]

      # It has the one secret that its file names, and not those of the gateway.
      dynamic "env" {
        for_each = local.collector_secrets

        content {
          name        = env.key
          secret_name = env.value
        }
      }

      volume_mounts {
        name = "shared-configs"
        path = local.shared_dir
      }

      liveness_probe {
        transport = "HTTP"
        path      = "/"
        port      = 13133
      }
    }
  }

  lifecycle {
    precondition {
      condition     = length(setintersection(keys(var.app_settings), keys(local.secrets))) == 0
      error_message = "These settings are both in app_settings and among the secrets: ${join(", ", setintersection(keys(var.app_settings), keys(local.secrets)))}. Remove them from one of the two."
    }

    precondition {
      condition     = length(setintersection(keys(var.app_settings), local.reserved)) == 0
      error_message = "Terraform sets these settings: ${join(", ", setintersection(keys(var.app_settings), local.reserved))}. Remove them from app_settings; use the variables gateway_log_mode and redis_kind."
    }

    precondition {
      condition = alltrue([
        for name in concat(keys(var.app_settings), tolist(var.secret_settings)) :
        !anytrue([for index in range(length(var.backends)) : can(regex("^AZURE_OPENAI_(ENDPOINT|KEY|NAME|REGION|AUTH_MODE)_${index}$", name))])
      ])
      error_message = "A setting describes a backend that Terraform provisions. The first ${length(var.backends)} indexes belong to provisioned backends: give backends of your own an index of ${length(var.backends)} or more."
    }
  }

  # A replica cannot start before the identity may pull the image, and cannot answer before it may call the backends.
  depends_on = [azurerm_role_assignment.this]
}

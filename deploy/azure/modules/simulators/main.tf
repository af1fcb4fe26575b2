# Three simulators of Azure OpenAI for the toolkit's scenarios. They share a key, which is in the vault, and nowhere in the
# plan or the state.

locals {
  # The backends that the pools of the test mode name, in the order of `genai-gateway e2e --simulator`.
  backends = {
    "ptu-backend-1"  = "ptu1"
    "payg-backend-1" = "payg1"
    "payg-backend-2" = "payg2"
  }
  # Names of Container Apps have 32 characters at most.
  names = { for backend, short in local.backends : backend => trimsuffix(substr("ca-sim-${short}-${var.name_suffix}", 0, 32), "-") }
}

ephemeral "random_password" "key" {
  length = 48
  # It is a value of a header.
  special = false
}

# tflint-ignore: azurerm_resources_missing_prevent_destroy # The key is of use to the simulators only, which go with it.
resource "azurerm_key_vault_secret" "key" {
  # checkov:skip=CKV_AZURE_41:The key does not expire. A date here would stop the simulators on that day.
  name             = var.secret_name
  key_vault_id     = var.key_vault_id
  content_type     = "text/plain"
  value_wo         = ephemeral.random_password.key.result
  value_wo_version = var.secret_version
  tags             = var.tags
}

resource "azurerm_user_assigned_identity" "this" {
  name                = "id-sim-${var.name_suffix}"
  resource_group_name = var.resource_group_name
  location            = var.location
  tags                = var.tags
}

resource "azurerm_role_assignment" "pull" {
  count = var.registry_id == "" ? 0 : 1

  scope                = var.registry_id
  role_definition_name = "AcrPull"
  principal_id         = azurerm_user_assigned_identity.this.principal_id
  principal_type       = "ServicePrincipal"
}

resource "azurerm_container_app" "this" {
  for_each = local.names

  name                         = each.value
  resource_group_name          = var.resource_group_name
  container_app_environment_id = var.container_app_environment_id
  revision_mode                = "Single"
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

  secret {
    name                = var.secret_name
    key_vault_secret_id = "${trimsuffix(var.key_vault_uri, "/")}/secrets/${azurerm_key_vault_secret.key.name}"
    identity            = var.vault_identity_id
  }

  # Who runs the scenarios sets latencies and resets limits of the simulators, so they are reached from where the gateway is.
  ingress {
    external_enabled           = var.external_enabled
    target_port                = 8000
    transport                  = "auto"
    allow_insecure_connections = false

    traffic_weight {
      latest_revision = true
      percentage      = 100
    }
  }

  template {
    # Each process counts for itself: with two replicas a limit would be twice as high.
    min_replicas = 1
    max_replicas = 1

    container {
      name   = "simulator"
      image  = var.image
      cpu    = 1
      memory = "2Gi"

      # The simulator reads its deployments from a file only.
      command = ["sh", "-c"]
      args = [
        join("\n", [
          "printf %s \"$DEPLOYMENTS\" > /tmp/deployments.json",
          "exec gunicorn aoai_api_simulator.main:app --worker-class uvicorn.workers.UvicornWorker --bind 0.0.0.0:8000",
        ])
      ]

      env {
        name  = "DEPLOYMENTS"
        value = jsonencode(jsondecode(file("${path.module}/deployments.json")))
      }

      env {
        name  = "OPENAI_DEPLOYMENT_CONFIG_PATH"
        value = "/tmp/deployments.json"
      }

      env {
        name  = "SIMULATOR_MODE"
        value = "generate"
      }

      env {
        name        = "SIMULATOR_API_KEY"
        secret_name = var.secret_name
      }

      startup_probe {
        transport               = "HTTP"
        port                    = 8000
        path                    = "/"
        interval_seconds        = 2
        failure_count_threshold = 30
      }

      liveness_probe {
        transport               = "HTTP"
        port                    = 8000
        path                    = "/"
        timeout                 = 10
        failure_count_threshold = 6
      }
    }
  }

  # Without the role the image cannot be pulled.
  depends_on = [azurerm_role_assignment.pull]
}

# The Redis that replicas of the gateway share for affinity and limits: Azure Managed Redis, or a container for tests.
# Its password is in the vault, and nowhere in the plan or the state.

locals {
  managed   = var.kind == "managed"
  container = var.kind == "container"
}

# azurerm_managed_redis exports both access keys as soon as access keys are on, so they would be in the state. The gateway
# cannot sign in to Redis with Entra ID, so access keys must be on.
resource "azapi_resource" "cluster" {
  count = local.managed ? 1 : 0

  type      = "Microsoft.Cache/redisEnterprise@2025-07-01"
  name      = var.name
  parent_id = var.resource_group_id
  location  = var.location
  tags      = var.tags

  body = {
    sku = { name = var.sku_name }
    properties = {
      highAvailability    = var.high_availability_enabled ? "Enabled" : "Disabled"
      minimumTlsVersion   = "1.2"
      publicNetworkAccess = var.network_isolation ? "Disabled" : "Enabled"
    }
  }

  response_export_values = { host = "properties.hostName" }

  lifecycle {
    precondition {
      condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9-]{0,58}[A-Za-z0-9]$", var.name))
      error_message = "The name of the Redis is not valid. Write 2 to 60 letters, digits and hyphens."
    }
  }
}

resource "azapi_resource" "database" {
  count = local.managed ? 1 : 0

  type      = "Microsoft.Cache/redisEnterprise/databases@2025-07-01"
  name      = "default"
  parent_id = azapi_resource.cluster[0].id

  body = {
    properties = {
      accessKeysAuthentication = "Enabled"
      clientProtocol           = "Encrypted"
      # The gateway's client speaks to one node and does not follow redirections of a cluster.
      clusteringPolicy = "NoCluster"
      # Everything that the gateway stores has a lifetime.
      evictionPolicy = "VolatileLRU"
      port           = 10000
    }
  }

  response_export_values = {}
}

module "key" {
  source = "../vault-secret"
  count  = local.managed ? 1 : 0

  name          = var.secret_name
  key_vault_id  = var.key_vault_id
  resource_type = "Microsoft.Cache/redisEnterprise/databases@2025-07-01"
  resource_id   = azapi_resource.database[0].id
  action        = "listKeys"
  value_path    = "primaryKey"
  value_version = var.secret_version
  tags          = var.tags
}

resource "azurerm_private_endpoint" "this" {
  count = local.managed && var.network_isolation ? 1 : 0

  name                = "pep-${var.name}"
  resource_group_name = var.resource_group_name
  location            = var.location
  subnet_id           = var.private_endpoint_subnet_id
  tags                = var.tags

  private_service_connection {
    name                           = var.name
    private_connection_resource_id = azapi_resource.cluster[0].id
    subresource_names              = ["redisEnterprise"]
    is_manual_connection           = false
  }

  private_dns_zone_group {
    name                 = "default"
    private_dns_zone_ids = [var.private_dns_zone_id]
  }
}

ephemeral "random_password" "container" {
  count = local.container ? 1 : 0

  length = 48
  # Redis reads the password from a file in which quotes and backslashes have a meaning.
  special = false
}

resource "azurerm_key_vault_secret" "container" {
  # checkov:skip=CKV_AZURE_41:The password does not expire. A date here would stop the gateway on that day.
  count = local.container ? 1 : 0

  name             = var.secret_name
  key_vault_id     = var.key_vault_id
  content_type     = "text/plain"
  value_wo         = ephemeral.random_password.container[0].result
  value_wo_version = var.secret_version
  tags             = var.tags
}

resource "azurerm_container_app" "this" {
  count = local.container ? 1 : 0

  name                         = var.name
  resource_group_name          = var.resource_group_name
  container_app_environment_id = var.container_app_environment_id
  revision_mode                = "Single"
  workload_profile_name        = var.workload_profile_name
  tags                         = var.tags

  identity {
    type         = "UserAssigned"
    identity_ids = [var.vault_identity_id]
  }

  secret {
    name                = var.secret_name
    key_vault_secret_id = "${trimsuffix(var.key_vault_uri, "/")}/secrets/${azurerm_key_vault_secret.container[0].name}"
    identity            = var.vault_identity_id
  }

  ingress {
    external_enabled = false
    transport        = "tcp"
    target_port      = 6379
    exposed_port     = 6379

    traffic_weight {
      latest_revision = true
      percentage      = 100
    }
  }

  template {
    # Two replicas would be two databases.
    min_replicas = 1
    max_replicas = 1

    container {
      name   = "redis"
      image  = var.image
      cpu    = 0.25
      memory = "0.5Gi"

      # The password goes through a file that only Redis reads: arguments of a process are visible to others.
      command = ["sh", "-c"]
      args = [
        join("\n", [
          "umask 077",
          "printf 'requirepass %s\\n' \"$REDIS_PASSWORD\" > /tmp/redis.conf",
          "chown redis /tmp/redis.conf",
          "unset REDIS_PASSWORD",
          # The image's own entrypoint gives up root.
          "exec docker-entrypoint.sh redis-server /tmp/redis.conf --bind 0.0.0.0 --save '' --appendonly no --maxmemory 256mb --maxmemory-policy volatile-lru",
        ])
      ]

      env {
        name        = "REDIS_PASSWORD"
        secret_name = var.secret_name
      }

      startup_probe {
        transport               = "TCP"
        port                    = 6379
        interval_seconds        = 1
        failure_count_threshold = 30
      }

      liveness_probe {
        transport = "TCP"
        port      = 6379
      }
    }
  }

  lifecycle {
    precondition {
      condition     = can(regex("^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$", var.name))
      error_message = "The name of the Redis is not valid for a Container App. Write at most 32 lower-case letters, digits and hyphens, a letter first."
    }
  }
}

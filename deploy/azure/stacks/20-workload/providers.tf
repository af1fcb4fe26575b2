provider "azurerm" {
  subscription_id = var.subscription_id
  tenant_id       = var.tenant_id
  # Registered once, where they are not yet.
  resource_providers_to_register = ["Microsoft.AlertsManagement", "Microsoft.App", "Microsoft.Cache", "Microsoft.Insights", "Microsoft.ManagedIdentity", "Microsoft.Network"]

  features {
    key_vault {
      # Removing the stack leaves the passwords restorable, and making it again restores them.
      purge_soft_deleted_secrets_on_destroy = false
      recover_soft_deleted_secrets          = true
    }
  }
}

provider "azapi" {
  subscription_id = var.subscription_id
  tenant_id       = var.tenant_id
}

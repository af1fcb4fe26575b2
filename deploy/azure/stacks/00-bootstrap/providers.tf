provider "azurerm" {
  subscription_id     = var.subscription_id
  tenant_id           = var.tenant_id
  storage_use_azuread = true
  # Registered once, if it is not yet.
  resource_providers_to_register = ["Microsoft.Storage"]

  features {
    storage {
      # The data plane would need access through the network rules. The resources here need the control plane only.
      data_plane_available = false
    }
  }
}

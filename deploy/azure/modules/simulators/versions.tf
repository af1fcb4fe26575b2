terraform {
  # 1.11 is the first version with write-only arguments.
  required_version = ">= 1.11, < 2"

  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "~> 5.2"
    }
    # The key of the simulators is an ephemeral value.
    random = {
      source  = "hashicorp/random"
      version = "~> 3.7"
    }
  }
}

"""Signs of gradient masking, one file each; `keepstone.lab.masking.listed` lists them."""

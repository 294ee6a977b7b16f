"""The database's migrations; they ship in the wheel, and `ckpt-quota db upgrade` runs them."""

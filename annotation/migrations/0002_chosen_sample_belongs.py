"""A judgement's chosen sample belongs to its comparison, and was shown on the stored side."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("annotation", "0001_initial")]

    operations = [
        migrations.RunSQL(
            sql="""
                ALTER TABLE annotation_judgement
                ADD CONSTRAINT annotation_judgement_chosen_is_of_comparison
                FOREIGN KEY (chosen_sample_id, comparison_id, displayed_side)
                REFERENCES annotation_sample (id, comparison_id, side)
                DEFERRABLE INITIALLY IMMEDIATE
            """,
            reverse_sql="""
                ALTER TABLE annotation_judgement
                DROP CONSTRAINT annotation_judgement_chosen_is_of_comparison
            """,
        )
    ]
